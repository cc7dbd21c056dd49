"""Random requests; `make fuzz` sends a hundred thousand."""

from google.protobuf import empty_pb2

from indexer_service.v1 import indexer_pb2 as pb
from tests.fuzz import edge, requests

COUNT = 1_500
SEED = 20_261_123


async def test_every_call_ends_as_documented_when_requests_are_random() -> None:
    """Never INTERNAL or UNKNOWN, never after its deadline; an invalid argument names its field."""
    outcome = await edge.send_requests(COUNT, SEED)

    assert outcome.faults == []
    assert outcome.codes.total() == COUNT
    # Otherwise most requests fail at their first field, and the rest of the code is never reached.
    answered = {name for name, count in outcome.answered.items() if count}
    assert answered == {method.name for method in requests.METHODS}
    assert outcome.codes["OK"] > COUNT // 6


def test_every_method_has_requests_when_the_api_grows() -> None:
    """A new method is covered by itself."""
    methods = {method.name for method in requests.METHODS}

    assert methods == {method.name for method in pb.DESCRIPTOR.services_by_name["IndexerService"].methods}
    assert empty_pb2.Empty.DESCRIPTOR not in {method.input_type for method in requests.METHODS}
