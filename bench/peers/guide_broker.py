"""A Majordomo broker written the guide's way: poll, one message, one send; then look who has expired.

``python -m bench.peers.guide_broker ENDPOINT``. Own code after the design of the guide's chapter 4: names in
hexadecimal, a list of waiting workers with expiry times, heartbeats when they are due, ``recv_multipart`` and
``send_multipart`` and nothing clever. What the broker of this project is measured against.
"""

from __future__ import annotations

import sys
import time
from binascii import hexlify

import zmq

HEARTBEAT_S = 2.5
EXPIRY_S = 3 * HEARTBEAT_S


class Service:
    """A name with its requests and the workers that wait for one."""

    def __init__(self, name: bytes) -> None:
        self.name = name
        self.requests: list[list[bytes]] = []
        self.waiting: list[Worker] = []


class Worker:
    """A worker, idle or busy."""

    def __init__(self, identity: bytes, address: bytes) -> None:
        self.identity = identity
        self.address = address
        self.service: Service | None = None
        self.expiry = time.time() + EXPIRY_S


class Broker:
    """The guide's structure."""

    def __init__(self, endpoint: str) -> None:
        self.services: dict[bytes, Service] = {}
        self.workers: dict[bytes, Worker] = {}
        self.waiting: list[Worker] = []
        self.heartbeat_at = time.time() + HEARTBEAT_S
        self.socket: zmq.Socket[bytes] = zmq.Context.instance().socket(zmq.ROUTER)
        self.socket.setsockopt(zmq.LINGER, 0)
        self.socket.set_hwm(0)
        self.socket.bind(endpoint)
        self.poller = zmq.Poller()
        self.poller.register(self.socket, zmq.POLLIN)

    def mediate(self) -> None:
        """For ever."""
        while True:
            if self.poller.poll(int(HEARTBEAT_S * 1000)):
                message = self.socket.recv_multipart()
                sender = message.pop(0)
                message.pop(0)
                header = message.pop(0)
                if header == b"MDPC01":
                    self.process_client(sender, message)
                elif header == b"MDPW01":
                    self.process_worker(sender, message)
            self.purge_workers()
            self.send_heartbeats()

    def process_client(self, sender: bytes, message: list[bytes]) -> None:
        name = message.pop(0)
        if name.startswith(b"mmi."):
            self.socket.send_multipart([sender, b"", b"MDPC01", name, b"501"])
            return
        self.dispatch(self.require_service(name), [sender, b"", *message])

    def process_worker(self, sender: bytes, message: list[bytes]) -> None:
        command = message.pop(0)
        identity = hexlify(sender)
        known = identity in self.workers
        worker = self.require_worker(sender)
        if command == b"\x01":
            if known:
                self.delete_worker(worker, disconnect=True)
                return
            worker.service = self.require_service(message.pop(0))
            self.worker_waiting(worker)
        elif command == b"\x03" and worker.service is not None:
            client = message.pop(0)
            message.pop(0)
            self.socket.send_multipart([client, b"", b"MDPC01", worker.service.name, *message])
            self.worker_waiting(worker)
        elif command == b"\x04" and known:
            worker.expiry = time.time() + EXPIRY_S
        elif command == b"\x05":
            self.delete_worker(worker, disconnect=False)
        else:
            self.delete_worker(worker, disconnect=True)

    def require_worker(self, address: bytes) -> Worker:
        identity = hexlify(address)
        worker = self.workers.get(identity)
        if worker is None:
            worker = self.workers[identity] = Worker(identity, address)
        return worker

    def require_service(self, name: bytes) -> Service:
        service = self.services.get(name)
        if service is None:
            service = self.services[name] = Service(name)
        return service

    def delete_worker(self, worker: Worker, *, disconnect: bool) -> None:
        if disconnect:
            self.send_to_worker(worker, b"\x05", [])
        if worker.service is not None and worker in worker.service.waiting:
            worker.service.waiting.remove(worker)
        if worker in self.waiting:
            self.waiting.remove(worker)
        self.workers.pop(worker.identity, None)

    def worker_waiting(self, worker: Worker) -> None:
        assert worker.service is not None
        self.waiting.append(worker)
        worker.service.waiting.append(worker)
        worker.expiry = time.time() + EXPIRY_S
        self.dispatch(worker.service, None)

    def dispatch(self, service: Service, message: list[bytes] | None) -> None:
        if message is not None:
            service.requests.append(message)
        self.purge_workers()
        while service.waiting and service.requests:
            request = service.requests.pop(0)
            worker = service.waiting.pop(0)
            self.waiting.remove(worker)
            self.send_to_worker(worker, b"\x02", request)

    def send_to_worker(self, worker: Worker, command: bytes, message: list[bytes]) -> None:
        self.socket.send_multipart([worker.address, b"", b"MDPW01", command, *message])

    def purge_workers(self) -> None:
        while self.waiting and self.waiting[0].expiry < time.time():
            self.delete_worker(self.waiting[0], disconnect=False)

    def send_heartbeats(self) -> None:
        if time.time() > self.heartbeat_at:
            for worker in self.waiting:
                self.send_to_worker(worker, b"\x04", [])
            self.heartbeat_at = time.time() + HEARTBEAT_S


if __name__ == "__main__":
    Broker(sys.argv[1]).mediate()
