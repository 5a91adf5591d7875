"""What `make gpu` leaves behind: a JSON file with everything, a markdown file to commit, and a few lines for whoever waits."""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from tests.gpu.finding import Outcome

NO_GPU: Final = "no NVIDIA GPU here: not run on a GPU"
SHOWN_PACKAGES: Final = ("torch", "transformers", "tokenizers", "numpy", "textmill", "sentence-transformers")


def describe(cards: Sequence[Mapping[str, Any]], packages: Mapping[str, str], missing: Sequence[str]) -> dict[str, Any]:
    """The machine; as much of it as the packages that are here can tell."""
    try:
        from tests.benchmarks.machine import describe_machine

        machine = describe_machine()
    except ImportError:
        machine = {"python": sys.version.split()[0]}
    return {**machine, "gpus": list(cards), "packages": dict(packages), "missing_packages": list(missing)}


def headline(outcomes: Sequence[Outcome], *, has_gpu: bool) -> str:
    counts = {verdict: sum(outcome.verdict == verdict for outcome in outcomes) for verdict in ("pass", "miss", "could not run")}
    said = ", ".join(f"{count} {verdict}" for verdict, count in counts.items() if count)
    return f"On a GPU: {said}." if has_gpu else f"{NO_GPU[0].upper()}{NO_GPU[1:]}. What a CPU can check of it: {said}."


def failures(outcomes: Sequence[Outcome]) -> str:
    """Why the run failed, in a sentence; empty where it did not."""
    failed = [f"{outcome.part} ({outcome.verdict})" for outcome in outcomes if outcome.verdict != "pass"]
    return f"This run failed: {', '.join(failed)}." if failed else ""


def write(path: Path, outcomes: Sequence[Outcome], machine: Mapping[str, Any], seconds: float, *, has_gpu: bool) -> Path:
    """The JSON report to ``path``, the markdown one beside it. Returns the latter's path."""
    whole = {
        "suite": "textmill gpu",
        "gpu": has_gpu,
        "headline": headline(outcomes, has_gpu=has_gpu),
        "machine": machine,
        "seconds": round(seconds, 1),
        "parts": [asdict(outcome) for outcome in outcomes],
    }
    path.write_text(json.dumps(whole, indent=1, default=str) + "\n")
    markdown = path.with_suffix(".md")
    markdown.write_text(as_markdown(outcomes, machine, seconds, has_gpu=has_gpu))
    return markdown


def as_markdown(outcomes: Sequence[Outcome], machine: Mapping[str, Any], seconds: float, *, has_gpu: bool) -> str:
    packages = machine.get("packages", {})
    versions = ", ".join(f"{name} {packages[name]}" for name in SHOWN_PACKAGES if name in packages)
    parts = [
        "# GPU report",
        f"**{headline(outcomes, has_gpu=has_gpu)}**",
        *[
            f"GPU {card['index']}: {card['name']}, {card['memory_mib'] // 1024} GiB, compute capability {card['capability']}, driver "
            f"{card['driver']}{', MIG' if card['mig'] else ''}."
            for card in machine.get("gpus", [])
        ],
        f"{machine.get('cpu', 'CPU')}, {machine.get('cores', '?')} cores, Python {machine.get('python', '?')}; {versions}; "
        f"revision {str(machine.get('revision'))[:12]}; {seconds:.0f} s in all.",
    ]
    if machine.get("missing_packages"):
        parts.append(f"Not installed: {', '.join(machine['missing_packages'])}.")
    rows = [f"| {one.part} | {one.proves} | {_verdict(one, has_gpu=has_gpu)} | {one.seconds:.0f} s |" for one in outcomes]
    parts.append("\n".join(["| part | what it proves | verdict | took |", "|---|---|---|---|", *rows]))
    return "\n\n".join([*parts, *(_section(one) for one in outcomes)]) + "\n"


def _verdict(outcome: Outcome, *, has_gpu: bool) -> str:
    return outcome.verdict if has_gpu or outcome.verdict == "could not run" else f"{outcome.verdict} (on the CPU)"


def _section(outcome: Outcome) -> str:
    lines = [f"## {outcome.part}", *([f"Could not run: {outcome.why}"] if outcome.why else [])]
    checks = [f"- {'yes' if one.passed else '**NO**'}: {one.what}{f' ({one.found})' if one.found else ''}" for one in outcome.checks]
    figures = [f"- {name}: {_shown(value)}" for name, value in outcome.figures.items()]
    return "\n\n".join([*lines, *["\n".join(block) for block in (checks, figures) if block], *outcome.notes])


def _shown(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:.3g}" if isinstance(value, float) and value < 1000 else str(value)
