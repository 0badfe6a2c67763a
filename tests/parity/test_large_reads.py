"""Large receives in a process that has never freed a large block: no page is mapped for each."""

from __future__ import annotations

import pytest

from .harness.program import Program

# asyncio maps and unmaps a block for each message
pytestmark = pytest.mark.only("cloverleaf")

RECEIVE = """
import asyncio, resource, socket, threading
SIZE, COUNT = 128 * 1024, 300

class Sink(asyncio.Protocol):
    received = 0

    def data_received(self, data):
        self.received += len(data)
        if self.received == SIZE * COUNT:
            loop.stop()

def send():
    for _ in range(COUNT):
        theirs.sendall(message)

message = bytes(SIZE)
ours, theirs = socket.socketpair()
loop = new_event_loop()
transport, _ = loop.run_until_complete(loop.create_connection(Sink, sock=ours))
sender = threading.Thread(target=send)
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
sender.start()
loop.run_forever()
print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) // COUNT)
sender.join()
transport.close()
loop.run_until_complete(asyncio.sleep(0))
loop.close()
theirs.close()
"""


@pytest.mark.parametrize("prime", ["0", "1"])
def test_a_large_receive_maps_no_memory_of_its_own(program: Program, prime: str) -> None:
    faults = program.output(RECEIVE, env={"CLOVERLEAF_PRIME": prime})
    assert int(faults) < 5  # 32 pages a message, if each had a block of its own
