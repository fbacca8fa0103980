"""python -m lexlip.cli"""

from lexlip.cli import app

app()
