"""The attacks look at the store and the front as their own tests do."""

from tests.api.conftest import api, mill, serve
from tests.api.test_errors import log_lines
from tests.attacks.scene import scene
from tests.db.conftest import as_superuser

__all__ = ["api", "as_superuser", "log_lines", "mill", "scene", "serve"]
