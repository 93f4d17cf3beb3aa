"""Bits in a row, as unaligned packed encoding rules (ITU-T X.691) put them."""

from comms.reasons import Reason, Rejected


class Writer:
    """Appends values of a given width in bits."""

    def __init__(self) -> None:
        self._bits: list[str] = []

    def put(self, value: int, width: int) -> None:
        """``value`` is from 0 to below 2^width."""
        self._bits.append(f"{value:0{width}b}")

    def put_open(self, content: "Writer") -> None:
        """An open type: its length in octets, and its octets.

        Content of over 16383 octets, which would be cut in pieces, does not occur.
        """
        data = content.data()
        if len(data) < 128:
            self.put(len(data), 8)
        else:
            self.put(0x8000 | len(data), 16)
        self._bits.append(f"{int.from_bytes(data, 'big'):0{8 * len(data)}b}")

    def data(self) -> bytes:
        """What was put, filled up with zeros to whole octets, and never empty."""
        bits = "".join(self._bits)
        size = max(1, -(-len(bits) // 8))
        return int(bits.ljust(8 * size, "0"), 2).to_bytes(size, "big")


class Reader:
    """Takes values of a given width in bits.

    Raises (in each of its functions):
        Rejected: MALFORMED, where the bits end before the value.
    """

    def __init__(self, data: bytes) -> None:
        self._bits = bin(int.from_bytes(b"\1" + data, "big"))[3:]
        self._at = 0

    def take(self, width: int) -> int:
        end = self._at + width
        if end > len(self._bits):
            raise Rejected(Reason.MALFORMED, "the message ends within a value")
        value = int(self._bits[self._at : end] or "0", 2)
        self._at = end
        return value

    def take_open(self) -> bytes:
        """The octets of an open type."""
        size = self.take(8)
        if size & 0x80:
            size = (size & 0x7F) << 8 | self.take(8)
            if size & 0x4000:
                raise Rejected(Reason.MALFORMED, "content that is cut in pieces")
        if size == 0:
            raise Rejected(Reason.MALFORMED, "empty content")
        return self.take(8 * size).to_bytes(size, "big")
