"""Two jobs that have run, on a real API, and somebody who writes their database and holds no key."""

import json
from dataclasses import dataclass

import httpx
import pytest

from db.jobs import looks
from tests.api.conftest import Served
from tests.api.lines import CLASSIFY, classify_file
from tests.api.mill import Mill
from tests.db.conftest import AsSuperuser

CODE = "sealed_value_damaged"
METADATA = {"k": "v"}


@dataclass
class Scene:
    """Two of everything, so that each has a neighbour."""

    api: Served
    mill: Mill
    http: httpx.Client
    files: list[str]
    batches: list[str]
    as_superuser: AsSuperuser

    def damage(self, table: str, column: str, where: str) -> None:
        """One value, at its last byte."""
        flipped = f"set_byte({column}, octet_length({column}) - 1, get_byte({column}, octet_length({column}) - 1) # 1)"
        changed = self.as_superuser(f"UPDATE {table} SET {column} = {flipped} WHERE {where} RETURNING 1")
        assert len(changed) == 1

    def forget(self) -> None:
        """What an API that was started a moment ago does not have in its memory."""
        self.api.app.state.front.store.keyring._sealers.clear()
        looks._KEPT.clear()

    def lines(self, file_id: str) -> list[dict[str, object]]:
        response = self.http.get(f"/v1/files/{file_id}/content")
        assert response.status_code == 200
        return [json.loads(line) for line in response.text.splitlines()]

    def listed(self, path: str) -> list[dict[str, object]]:
        response = self.http.get(path)
        assert response.status_code == 200, response.text
        data: list[dict[str, object]] = response.json()["data"]
        return data

    def on_record(self) -> list[tuple[object, ...]]:
        events = self.listed("/v1/audit/events?action=value.damaged")
        return [(one["object_kind"], one["object_id"], one["first_idx"], one["end_idx"], one["value_count"]) for one in events]


@pytest.fixture
def scene(api: Served, mill: Mill, as_superuser: AsSuperuser) -> Scene:
    http = api.http()
    files = [api.upload(classify_file(3), f"{name}.jsonl").json()["id"] for name in ("a", "b")]
    body = {"endpoint": CLASSIFY, "defaults": {"model": "fake-encoder"}, "metadata": METADATA}
    batches = [http.post("/v1/batches", json={**body, "input_file_id": file}).raise_for_status().json()["id"] for file in files]
    mill.run_all()
    return Scene(api, mill, http, files, batches, as_superuser)


def hex_of(public_id: str) -> str:
    return public_id[-32:]


def told(thing: object) -> bool:
    return CODE in json.dumps(thing)
