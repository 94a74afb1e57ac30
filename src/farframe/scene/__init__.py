"""What is in a scene and how it is lit: pure data and maths. No GPU, no I/O, knows no other room."""
