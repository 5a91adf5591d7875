"""What all engines share: the shapes that cross between them and the micro-batcher, the plan by which one is run.

Light, and at the bottom: it imports no engine and no torch, so that the API may read the choices it allows.
"""
