"""The arrays that cross the machine room: token ids in, vectors out."""

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]


Vectors = NDArray[np.float32]
