"""Clients that drip, swell and crowd are shown out; the node serves everybody else meanwhile."""

from __future__ import annotations

import json
import resource
import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import httpx
import pytest

from tests.crash.world import Node, World

LIMIT = 200  # as the fixture `world` sets it
POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: node\r\n"
GET = b"GET /v1/models HTTP/1.1\r\nHost: node\r\n"
# Far longer than any deadline here: a test that waits this long has failed.
PATIENCE_S = 60


@pytest.fixture(scope="module")
def node(world: World) -> Iterator[Node]:
    node = world.start()
    yield node
    node.stop()


@pytest.fixture
def connect(world: World, node: Node) -> Iterator[Callable[..., socket.socket]]:
    """Open raw connections, from any of this machine's own addresses."""
    with ExitStack() as stack:

        def connect(source: str = "127.0.0.1") -> socket.socket:
            made = socket.create_connection(
                ("127.0.0.1", world.port), PATIENCE_S, source_address=(source, 0)
            )
            return stack.enter_context(made)

        yield connect


def everything(connection: socket.socket) -> bytes:
    """Read until the node hangs up."""
    heard = b""
    try:
        while piece := connection.recv(65536):
            heard += piece
    except ConnectionError:
        pass  # hung up while bytes of ours were still on their way
    return heard


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


def assert_serves(world: World, source: str = "127.0.0.1") -> None:
    transport = httpx.HTTPTransport(local_address=source)
    with httpx.Client(transport=transport, timeout=PATIENCE_S) as client:
        assert client.get(f"{world.url}/v1/models").status_code == 200


@pytest.mark.parametrize(
    "begun",
    [b"", b"P", POST, POST + b"Content-Type: application/json\r\nX-Slow"],
    ids=["nothing", "a letter", "half a head", "half a line"],
)
def test_a_head_that_does_not_end_is_answered_408(
    world: World, connect: Callable[..., socket.socket], begun: bytes
) -> None:
    slow = connect()
    slow.sendall(begun)
    assert_serves(world)
    assert status(everything(slow)) == 408


def test_a_head_that_comes_in_drips_gets_no_more_time_than_others(
    world: World, connect: Callable[..., socket.socket]
) -> None:
    slow = connect()
    slow.settimeout(0.1)
    heard = b""
    # One byte a tenth of a second: at this rate the head would take minutes.
    for drip in POST + b"X-Long: " + b"a" * 2000:
        try:
            slow.sendall(bytes([drip]))
            heard = slow.recv(100)
            break
        except TimeoutError:
            continue
    assert status(heard) == 408
    assert_serves(world)


def test_a_body_that_does_not_arrive_is_answered_408(
    world: World, connect: Callable[..., socket.socket]
) -> None:
    slow = connect()
    slow.sendall(POST + b"Connection: close\r\nContent-Length: 100\r\n\r\n" + b'{"model"')
    assert_serves(world)
    answer = everything(slow)
    assert status(answer) == 408
    assert b'"code": "body_too_slow"' in answer


def test_chunks_that_never_end_are_answered_408(connect: Callable[..., socket.socket]) -> None:
    slow = connect()
    slow.sendall(POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n{{{{\r\n")
    assert status(everything(slow)) == 408


@pytest.mark.parametrize(
    "head",
    [
        GET + b"X-Long: " + b"a" * 9000 + b"\r\n\r\n",
        GET + b"".join(b"X-%d: a\r\n" % n for n in range(1000)) + b"\r\n",
        GET + b"X-Endless: " + b"a" * 200_000,
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        GET + b"PAYMENT-SIGNATURE: " + b"A" * 100_000 + b"\r\n\r\n",
    ],
    ids=["one line", "a thousand lines", "without end", "target", "payment"],
)
def test_a_head_above_the_limit_is_answered_431(
    world: World, connect: Callable[..., socket.socket], head: bytes
) -> None:
    big = connect()
    big.sendall(head)
    # Where bytes of ours were on their way still, the reset may overtake the answer.
    assert status(everything(big)) in (431, 0)
    assert_serves(world)


def test_a_head_that_is_a_little_too_large_hears_why(
    connect: Callable[..., socket.socket],
) -> None:
    big = connect()
    big.sendall(GET + b"X-Long: " + b"a" * 8200 + b"\r\n\r\n")
    assert status(everything(big)) == 431


@pytest.mark.parametrize("length", [65_537, 10**15, 10**400], ids=["a byte", "a petabyte", "huge"])
def test_a_length_above_the_limit_is_answered_413_before_the_body_is_sent(
    connect: Callable[..., socket.socket], length: int
) -> None:
    big = connect()
    big.sendall(POST + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % length)
    assert status(big.recv(65536)) in (413, 400)


def test_chunks_above_the_limit_are_answered_413(connect: Callable[..., socket.socket]) -> None:
    big = connect()
    chunk = b"8000\r\n" + b"a" * 0x8000 + b"\r\n"
    big.sendall(POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk * 3)
    assert status(big.recv(65536)) == 413


@pytest.mark.parametrize(
    "request_",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 64 + b"\r\n\r\n",
        b"GET\r\n\r\n",
        POST + b"Content-Length: -1\r\n\r\n",
        POST + b"Content-Length: 2\r\nContent-Length: 3\r\n\r\n{}",
        POST + b"Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b" folded: no\r\nBad Name: 1\r\n\r\n",
    ],
    ids=["TLS", "no target", "negative", "two lengths", "length and chunks", "bad header"],
)
def test_what_is_no_request_is_answered_400(
    world: World, connect: Callable[..., socket.socket], request_: bytes
) -> None:
    odd = connect()
    odd.sendall(request_)
    assert status(odd.recv(65536)) in (400, 422)
    assert_serves(world)


def test_the_rest_of_a_body_that_was_refused_may_not_drip_for_ever(
    connect: Callable[..., socket.socket],
) -> None:
    slow = connect()
    slow.sendall(POST + b"Content-Length: 1000000\r\n\r\n")
    assert status(slow.recv(65536)) == 413
    slow.settimeout(0.1)
    for _ in range(PATIENCE_S * 10):
        try:
            slow.sendall(b"a")
            if not slow.recv(65536):
                break
        except TimeoutError:
            continue
        except ConnectionError:
            break
    else:
        pytest.fail("the node listened for a minute")


def test_an_address_that_crowds_the_door_is_answered_503_and_others_are_served(
    world: World, connect: Callable[..., socket.socket]
) -> None:
    crowd = [connect("127.0.0.3") for _ in range(LIMIT)]
    late = connect("127.0.0.3")
    assert status(everything(late)) == 503
    assert_serves(world, "127.0.0.4")
    # Those who say nothing lose their place, and then there is room again.
    for connection in crowd:
        assert status(everything(connection)) == 408
    assert_serves(world, "127.0.0.3")


def test_thousands_of_connections_that_say_nothing_do_not_hold_up_anybody(
    world: World, connect: Callable[..., socket.socket]
) -> None:
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    for number in range(min(2000, most - 500)):
        connect(f"127.0.1.{number // (LIMIT - 20) + 1}")
    assert_serves(world)
    with httpx.Client(timeout=PATIENCE_S) as client:
        assert client.post(f"{world.url}/v1/chat/completions", json={}).status_code == 400


def test_a_connection_that_is_used_is_not_cut_between_requests(
    connect: Callable[..., socket.socket],
) -> None:
    polite = connect()
    for _ in range(3):
        polite.sendall(GET + b"\r\n")
        answer = polite.recv(65536)
        while b"\r\n\r\n" not in answer:
            answer += polite.recv(65536)
        head, body = answer.split(b"\r\n\r\n", 1)
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        while len(body) < length:
            body += polite.recv(65536)
        assert json.loads(body)["data"]


def test_two_requests_in_one_packet_are_both_answered(
    connect: Callable[..., socket.socket],
) -> None:
    hasty = connect()
    hasty.sendall(GET + b"\r\n" + GET + b"Connection: close\r\n\r\n")
    assert everything(hasty).count(b"HTTP/1.1 200") == 2


def test_connections_that_ask_to_be_upgraded_leave_by_the_same_door(
    world: World, connect: Callable[..., socket.socket]
) -> None:
    source = "127.0.0.9"
    asks = b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    for _ in range(LIMIT + 1):
        asking = connect(source)
        asking.sendall(GET + asks + b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
        assert status(asking.recv(65536)) == 200
        asking.close()
    assert_serves(world, source)
