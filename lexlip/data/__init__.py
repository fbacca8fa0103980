"""Pictures and captions: the scenes the project draws itself, and readers of other collections."""
