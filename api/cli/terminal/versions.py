"""What a person is told of a head, a label set or a definition that has become another version."""


def what_stays(version: object) -> list[str]:
    """Of the version that was made now; nothing of a first one."""
    if not isinstance(version, int) or version < 2:
        return []
    return [f"It is version {version}. Jobs that began with another one go on with that."]
