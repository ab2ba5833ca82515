#!/usr/bin/env python3
"""Fills fuzz/corpus/<target> with seeds from tests/guard, tests/scripts and messages written by hand, and writes the
guard's dictionary. Idempotent: a seed's name is its hash. Run by `make fuzz`."""
import hashlib
import pathlib
import re
import struct

HERE = pathlib.Path(__file__).resolve().parent
TESTS = HERE.parent / "tests"


def keep(target, seed):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / hashlib.sha1(seed).hexdigest()).write_bytes(seed)


def message(tag, body):
    return tag + struct.pack("!I", len(body) + 4) + body


def packet(body):
    return struct.pack("!I", len(body) + 4) + body


def cstr(*parts):
    return b"".join(part + b"\0" for part in parts)


def guard_texts():
    for path in sorted((TESTS / "guard").glob("*.sql")):
        for block in re.split(r"(?m)^-- (?:allow|deny).*$", path.read_text())[1:]:
            yield block.strip().encode()


def script_texts():
    for path in sorted((TESTS / "scripts").glob("*.txt")):
        for text in re.findall(r'"((?:[^"\\]|\\.)*)"', path.read_text()):
            yield text.replace('\\"', '"').replace("\\\\", "\\").encode()


def chunks(seed, sizes):
    """As entries::draw::chunk reads them."""
    out, at, turn = b"", 0, 0
    while at < len(seed):
        size = sizes[turn % len(sizes)]
        part = seed[at : at + size]
        out += struct.pack("!H", len(part)) + part
        at, turn = at + size, turn + 1
    return out


def main():
    texts = sorted({text for text in [*guard_texts(), *script_texts()] if text})
    for text in texts:
        keep("guard", text)
    for text in texts[::7]:
        query = message(b"Q", cstr(text))
        parse = message(b"P", cstr(b"s", text) + struct.pack("!HI", 1, 23))
        bind = message(b"B", cstr(b"", b"s") + struct.pack("!HHHi", 1, 1, 1, 1) + b"7" + struct.pack("!H", 0))
        rest = message(b"D", cstr(b"P")) + message(b"E", b"\0" + struct.pack("!I", 2)) + message(b"S", b"")
        keep("frames", query)
        keep("frames", parse + bind + rest + message(b"C", b"Ss\0"))
    replies = [
        message(b"1", b""), message(b"2", b""), message(b"3", b""), message(b"n", b""), message(b"s", b""),
        message(b"I", b""), message(b"T", b"\0\0"), message(b"D", b"\0\0"), message(b"C", b"SELECT 1\0"),
        message(b"C", b"COMMIT\0"), message(b"C", b"SET\0"), message(b"Z", b"I"), message(b"Z", b"T"),
        message(b"Z", b"E"), message(b"E", b"SERROR\0VERROR\0C42601\0Mno\0P9\0\0"), message(b"G", b"\0\0\0"),
        message(b"H", b"\0\0\0"), message(b"d", b"x"), message(b"c", b""),
        message(b"N", b"SNOTICE\0VNOTICE\0C00000\0Mn\0\0"), message(b"S", b"TimeZone\0UTC\0"),
        message(b"S", b"client_encoding\0SJIS\0"), message(b"A", b"\0\0\0\1chan\0pay\0"),
        message(b"K", b"\0\0\0\1abcd"), message(b"t", b"\0\0"),
    ]
    keep("frames", b"".join(replies))
    for reply in replies:
        keep("frames", reply)
    for kind in range(12):
        for start in range(0, len(replies), 3):
            keep("server", bytes([kind, start]) + chunks(b"".join(replies[start : start + 4]), [9, 400]))
    login = message(b"R", b"\0\0\0\0")
    for name, value in [(b"server_version", b"15.14"), (b"standard_conforming_strings", b"on"),
                        (b"client_encoding", b"UTF8"), (b"integer_datetimes", b"on")]:
        login += message(b"S", cstr(name, value))
    login += message(b"K", b"\0\0\0\7abcd") + message(b"Z", b"I")
    for ask in [b"", message(b"R", struct.pack("!I", 10) + b"SCRAM-SHA-256\0\0"), message(b"R", struct.pack("!I", 3)),
                message(b"R", struct.pack("!I", 5) + b"salt"), message(b"v", struct.pack("!II", 196608, 0))]:
        for choice in range(6):
            keep("server", bytes([255, choice]) + chunks(ask + login, [4000]))
    for number in range(64):
        keep("session", hashlib.sha512(bytes([number])).digest() * 3)
        keep("scram", hashlib.sha512(bytes([number])).digest())
    keep("scram", b"\7SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:"
                  b"wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=")
    users = [cstr(b"user", b"app_user.acme", b"database", b"demo", b"options", b"-c TimeZone=UTC"),
             cstr(b"user", b"app_user", b"app.tenant_id", b"acme", b"_pq_.x", b"1"),
             cstr(b"user", b"nobody", b"replication", b"database")]
    for version in [196608, 196610, 196699, 131072]:
        for user in users:
            for front in [b"", packet(struct.pack("!I", 80877103)), packet(struct.pack("!I", 80877104))]:
                seed = front + packet(struct.pack("!I", version) + user + b"\0")
                for choice in range(8):
                    keep("startup", bytes([choice, choice * 37 % 256]) + chunks(seed, [8, 300]))
    keep("startup", bytes([0, 0]) + chunks(packet(struct.pack("!II", 80877102, 7) + b"abcd"), [3, 90]))
    keywords = re.findall(r"^[^#\s].*$", (HERE.parent / "src/guard/tables/keywords.txt").read_text(), re.M)
    words = sorted({word for line in keywords for word in line.split()})
    words += ["set_config", "pg_catalog", "app.tenant_id", "$1", "::", "U&'", "E'", "$$", "/*", "*/", "--", "'", '"']
    lines = ['"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"' for word in words]
    (HERE / "corpus").mkdir(exist_ok=True)
    (HERE / "corpus" / "guard.dict").write_text("\n".join(lines) + "\n")


main()
