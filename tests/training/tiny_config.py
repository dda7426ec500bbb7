"""A configuration of the generator's training that takes a moment."""

TINY = {
    "channels": (16, 16, 16),
    "blocks": (1, 1, 1),
    "batch": 2,
    "sizes_px": (96,),
    "size_weights": (1.0,),
    "specimens": 0,
}
