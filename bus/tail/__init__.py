"""Watching many streams at once: readiness, not blocking.

A Tail reads only what is watched in this process. Two implementations keep one contract (tests/contract):
TrackingTail uses CLIENT TRACKING as epoll for streams, BlockingTail groups of blocking XREADs.
Imports redis and model.
"""
