#!/usr/bin/env python3
"""What the guard says of PostgreSQL's own regression suite, without any of its text being kept here.

usage: regress.py FOLDER [--tenantgate PROGRAM] [--examples N] [--classes]

FOLDER holds the suite's files (src/test/regress/sql/*.sql of PostgreSQL's source, or test/sql/postgres_regress of libpg_query's).
Each file is read as psql would read it (its own commands, COPY data and variables are taken out) and given to `tenantgate explain`,
once per preset. Printed: how many statements there are, how many each preset may run, how many are refused by which code,
and per code some examples.
"""
import argparse
import collections
import concurrent.futures
import json
import pathlib
import re
import subprocess

PRESETS = ["tenant", "application", "migration"]
# A psql command behind a statement sends it, as the semicolon does.
SENDS = re.compile(r"\s*\\(?:gset|gexec|gdesc|gx|g|crosstabview|bind\w*|parse|close_prepared|sendpipeline)\b.*$")
VARIABLE = re.compile(r"(?<![:\w']):(?:'(\w+)'|\"(\w+)\"|([A-Za-z_]\w*))")


def as_sent(text):
    lines, in_data, statement = [], False, ""
    for line in text.splitlines():
        if in_data:
            in_data = line != "\\."
            continue
        if line.lstrip().startswith("\\") and not SENDS.match(line):
            continue
        line = SENDS.sub(";", line)
        line = VARIABLE.sub(lambda found: f"'{found[1]}'" if found[1] else f'"{found[2]}"' if found[2] else found[3], line)
        lines.append(line.replace("\\;", ";"))
        statement = (statement + " " + line) if statement else line
        if line.rstrip().endswith(";"):
            in_data = bool(re.search(r"^\s*copy\b.*\bfrom\s+stdin\b", statement.strip(), re.I | re.S))
            statement = ""
    return "\n".join(lines)


def explain(program, preset, text):
    asked = subprocess.run([program, "explain", "--preset", preset, "--format", "json"], input=text.encode(), capture_output=True)
    return [json.loads(line) for line in asked.stdout.decode().splitlines()]


def main():
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("folder", type=pathlib.Path)
    arguments.add_argument("--tenantgate", default="target/debug/tenantgate")
    arguments.add_argument("--examples", type=int, default=0)
    arguments.add_argument("--classes", action="store_true", help="count by class and code, too")
    given = arguments.parse_args()
    files = sorted(given.folder.glob("*.sql"))
    texts = [as_sent(file.read_text(errors="replace")) for file in files]
    for preset in PRESETS:
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            said = list(pool.map(lambda text: explain(given.tenantgate, preset, text), texts))
        lines = [(file.name, line) for file, answers in zip(files, said) for line in answers]
        codes = collections.Counter(line["code"] or "allowed" for _, line in lines)
        print(f"\n{preset}: {len(lines)} statements of {len(files)} files")
        for code, count in codes.most_common():
            print(f"  {code:8} {count:6}")
        if given.classes:
            classes = collections.Counter((line["code"], line["class"]) for _, line in lines if line["code"])
            for (code, kind), count in classes.most_common(40):
                print(f"    {code} {kind} {count}")
        if given.examples:
            by_code = collections.defaultdict(list)
            for name, line in lines:
                if line["code"]:
                    by_code[line["code"]].append((name, line["class"], line["reason"]))
            for code, found in sorted(by_code.items()):
                reasons = collections.Counter((kind, reason) for _, kind, reason in found)
                for (kind, reason), count in reasons.most_common(given.examples):
                    print(f"    {code} {kind} x{count}: {reason}")


main()
