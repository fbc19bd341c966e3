"""Reads a log and examines it, in several processes where that is worth it, in the log's order."""

from __future__ import annotations

import multiprocessing
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeAlias

from inference.audit.examination import Examiner, Row
from registry.errors import WeightproofError
from registry.hashing.parallel import processors

# Entries of one errand: about 2 MiB to send, a tenth of a second's work.
PAGE: Final = 1000
# Processes take a second or two to start: that must be worth it.
_WORTH_IT: Final = 5_000
_MOST: Final = 16
# Pages under way for each process: none waits, and memory stays bounded.
_AHEAD: Final = 3

Page: TypeAlias = tuple[list[bytes], list[Row]]


def examined(
    examiner: Examiner, entries: Iterable[bytes], start: int, end: int, *, processes: int = 0
) -> Generator[Page, None, None]:
    """Yield pages of the entries [start, end) and what was found of each entry.

    `processes` 0 takes one for each processor where there are many entries; 1 takes this one.
    Raises what reading `entries` raises, after all that was read before.
    """
    wanted = min(processes or processors(), _MOST)
    pages = _pages(entries)
    if wanted == 1 or (not processes and end - start < _WORTH_IT):
        for page in pages:
            yield page, examiner.page(start, page)
            start += len(page)
        return
    # A clean process that imports once what all of them need.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([Examiner.__module__])
    with ProcessPoolExecutor(wanted, mp_context=context) as pool, ThreadPoolExecutor(1) as reader:
        yield from _in_order(pool, reader, examiner, pages, start, wanted * _AHEAD)


@dataclass
class _Errand:
    """A page that is examined elsewhere."""

    start: int
    page: list[bytes]
    rows: Future[list[Row]]

    def result(self, examiner: Examiner) -> Page:
        try:
            return self.page, self.rows.result()
        except BrokenExecutor:  # somebody killed a process, for memory perhaps
            return self.page, examiner.page(self.start, self.page)


def _in_order(
    pool: ProcessPoolExecutor,
    reader: ThreadPoolExecutor,
    examiner: Examiner,
    pages: Iterator[list[bytes]],
    start: int,
    ahead: int,
) -> Iterator[Page]:
    under_way: deque[_Errand] = deque()
    # Until the processes have started, this one does not wait for them.
    started = False
    broken: WeightproofError | None = None
    # The next page is fetched while those before are examined.
    fetched = reader.submit(next, pages, None)
    while True:
        try:
            page = fetched.result()
        except WeightproofError as error:
            broken, page = error, None
        if page is None:
            break
        fetched = reader.submit(next, pages, None)
        if started or sum(not errand.rows.done() for errand in under_way) < ahead // _AHEAD:
            rows = _submitted(pool, examiner, start, page)
        else:
            rows = _done(examiner.page(start, page))
        under_way.append(_Errand(start, page, rows))
        start += len(page)
        started = started or under_way[0].rows.done()
        while under_way and (under_way[0].rows.done() or (started and len(under_way) >= ahead)):
            yield under_way.popleft().result(examiner)
    for errand in under_way:
        yield errand.result(examiner)
    if broken is not None:
        raise broken


def _done(rows: list[Row]) -> Future[list[Row]]:
    examined_here: Future[list[Row]] = Future()
    examined_here.set_result(rows)
    return examined_here


def _submitted(
    pool: ProcessPoolExecutor, examiner: Examiner, start: int, page: list[bytes]
) -> Future[list[Row]]:
    try:
        return pool.submit(examiner.page, start, page)
    except BrokenExecutor as error:
        failed: Future[list[Row]] = Future()
        failed.set_exception(error)
        return failed


def _pages(entries: Iterable[bytes]) -> Iterator[list[bytes]]:
    rest, page = iter(entries), list[bytes]()
    try:
        while True:
            for data in islice(rest, PAGE):
                page.append(data)
            if not page:
                return
            yield page
            page = []
    except WeightproofError:
        # What came before the failure is looked at first.
        if page:
            yield page
        raise
