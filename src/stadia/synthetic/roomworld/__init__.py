"""RoomWorld: furnished rooms and corridors, filmed by a hand-held camera."""
