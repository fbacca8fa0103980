"""Folders of one's own: an index of them that is made, kept up to date and found again.

`follow` is behind ``lexlip search FOLDER`` and ``lexlip serve FOLDER``.
"""

from lexlip.home.follow import Following, follow
from lexlip.home.places import Place, place_of

__all__ = ["Following", "Place", "follow", "place_of"]
