"""`python -m api.reference`: writes what is generated into the pages of `api/docs/pages/`."""

from api.docs.pages import FOLDER, TOPICS
from api.reference.parts import current


def main() -> None:
    for topic in TOPICS:
        path = FOLDER / f"{topic}.md"
        before = path.read_text(encoding="utf-8")
        after = current(before)
        if after != before:
            path.write_text(after, encoding="utf-8")
            print(f"{path.name} is written anew")


if __name__ == "__main__":
    main()
