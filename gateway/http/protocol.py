"""uvicorn's HTTP protocol, with a problem document for bytes that are no HTTP."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from gateway.pure import problems


class GatewayProtocol(HttpToolsProtocol):
    """Answers 400 as RFC 9457 has it; everything else is uvicorn's."""

    def send_400_response(self, msg: str) -> None:
        """Send the problem and close: where the next request begins is not known any more."""
        body = problems.encode(problems.MALFORMED_HTTP, msg, "/")
        head = (
            b"HTTP/1.1 400 Bad Request\r\ncontent-type: %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n"
            % (problems.MEDIA_TYPE, len(body))
        )
        self.transport.write(head + body)
        self.transport.close()
