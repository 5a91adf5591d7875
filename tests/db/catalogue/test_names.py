"""What a job may meet where nobody noted what its rows name."""

import pytest

from db.actors import Actor
from db.catalogue.label_sets import delete_label_set, put_label_set
from db.catalogue.names import names_for_job
from db.catalogue.purge import KEPT_VERSIONS
from db.files.files import create_file
from db.files.rows import RowWriter
from db.files.stored_names import Names
from tests.db.flow import Flow, Stores, plain


@pytest.fixture
def flow(stores: Stores) -> Flow:
    return Flow(stores)


def test_the_last_versions_that_are_there_may_be_named_whatever_their_numbers(flow: Flow, tenant: Actor) -> None:
    file = create_file(flow.api, tenant, name="n", purpose="batch")
    writer = RowWriter(flow.api, tenant, file)
    writer.append([plain(0)])
    writer.finish(1)
    for at in range(KEPT_VERSIONS + 3):
        put_label_set(flow.api, tenant, "desk", ["a", f"b{at}"])
    for number in range(4, KEPT_VERSIONS + 3):
        delete_label_set(flow.api, tenant, f"desk@{number}")
    may_be = names_for_job(flow.api, tenant, file.file_id, Names())
    assert may_be.others is not None
    assert may_be.others.label_sets == {"desk", "desk@1", "desk@2", "desk@3", f"desk@{KEPT_VERSIONS + 3}"}
