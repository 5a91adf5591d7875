"""A file in YAML, as a person writes it; JSON is YAML, too."""

import re
from pathlib import Path
from typing import Any

from api.cli.terminal.exits import CommandError
from api.cli.terminal.terminal import shown


def read_yaml(path: Path) -> Any:
    """Raises CommandError."""
    import yaml

    class Plain(yaml.SafeLoader):
        """YAML 1.2's own scalars: a label `no` or `on` is a text, and so is a date."""

    Plain.yaml_implicit_resolvers = {
        first: [(tag, rule) for tag, rule in rules if tag not in {"tag:yaml.org,2002:bool", "tag:yaml.org,2002:timestamp"}]
        for first, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }
    Plain.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("true|false"), list("tf"))  # type: ignore[no-untyped-call]
    try:
        return yaml.load(path.read_text(encoding="utf-8"), Loader=Plain)  # noqa: S506 - of SafeLoader
    except OSError as error:
        raise CommandError(f"{shown(path)} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise CommandError(f"{shown(path)} is not UTF-8.") from None
    except RecursionError:
        raise CommandError(f"{shown(path)} is nested too deep.") from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = "" if mark is None else f" from its line {mark.line + 1} on"
        raise CommandError(f"{shown(path)} is no YAML{where}.") from None
