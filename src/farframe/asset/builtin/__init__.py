"""Models that Farframe generates itself: a small solid-modelling kit and the engine built from it.

The kit (``mesh``, ``curves``, ``primitives``, ``lettering``, ``fasteners``) knows no engine; the engine's rooms
(``bottom_end``, ``top_end``, ``front_drive``, ``induction``, ``exhaust``, ``ancillaries``) know no vertex format, which
only ``assembly`` writes. Lengths are millimetres here and metres in the finished model; angles are degrees in
signatures. Nothing here reads files, uses randomness or talks to a GPU.
"""
