"""What happens when strangers send what they like. `make fuzz` throws a hundred thousand."""

from google.protobuf import empty_pb2

from indexer_service.v1 import indexer_pb2 as pb
from tests.fuzz import edge, requests

COUNT = 1_500
SEED = 20_261_123


async def test_every_call_ends_as_documented_when_requests_are_random() -> None:
    """Never INTERNAL or UNKNOWN, never later than its deadline, and a refused request learns its field."""
    outcome = await edge.throw(COUNT, SEED)

    assert outcome.faults == []
    assert outcome.codes.total() == COUNT
    # Else most requests were refused at the first field, and what lies behind was never reached.
    answered = {name for name, count in outcome.answered.items() if count}
    assert answered == {method.name for method in requests.METHODS}
    assert outcome.codes["OK"] > COUNT // 6


def test_every_field_can_be_thrown_when_the_api_grows() -> None:
    """A type of field for which there are no values fails here, and not silently."""
    methods = {method.name for method in requests.METHODS}

    assert methods == {method.name for method in pb.DESCRIPTOR.services_by_name["IndexerService"].methods}
    assert empty_pb2.Empty.DESCRIPTOR not in {method.input_type for method in requests.METHODS}
