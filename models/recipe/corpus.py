"""Training text: from Debian packages to one file of reflowed paragraphs for each.

A document is a run of paragraphs separated by one blank line; two blank lines end it.
Never used here: jargon-text, dict-jargon, dict-foldoc, fortunes (the evaluation and what quotes it).
`decontaminate` also drops every paragraph that shares 13 words in a row with the evaluation text.
"""
import gzip
import html
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

BASE = """r-cran-janeaustenr mh-book dict-devil dict-gcide perl-doc postgresql-doc-15 git-doc
python3.11-doc vim-runtime sqlite3-doc manpages manpages-dev apache2-doc exim4-doc-html zsh-doc
r-doc-html debian-policy debian-faq debian-reference-en linux-doc-6.1 racket-doc
ada-reference-manual-2012 python-django-doc python-sqlalchemy-doc python-scipy-doc gap-doc
emacs-common octave-doc c++-annotations-html postfix-doc gimp-help-en maxima-doc debian-handbook
developers-reference libreoffice-help-en-us gnome-user-docs""".split()
EXTRA = """anarchism cfi-en dict-wn dict-vera nethack-common debian-history maint-guide bash-doc
sbcl-doc gnu-standards harden-doc fetchmail reposurgeon open-adventure crawl-common bsdgames
rust-doc spamassassin""".split()

# What share of each package's documents is taken. MAIN: essays, dictionaries and handbooks whole, little of the
# reference pages; FINAL, while the rate falls: plainer prose, fewer dictionaries.
MAIN = dict.fromkeys("""mh-book dict-devil dict-gcide perl-doc git-doc vim-runtime debian-policy
debian-faq debian-reference-en emacs-common debian-handbook developers-reference anarchism cfi-en
dict-wn dict-vera nethack-common debian-history maint-guide bash-doc gnu-standards harden-doc fetchmail
reposurgeon open-adventure crawl-common bsdgames spamassassin""".split(), 1) | {
    "r-cran-janeaustenr": 0, "gnome-user-docs": 0, "": 0.15}
FINAL = MAIN | {
    "r-cran-janeaustenr": 1, "gnome-user-docs": 1, "dict-wn": 0.1, "dict-gcide": 0.3, "anarchism": 0.6,
    "perl-doc": 0.5, "vim-runtime": 0.5, "bash-doc": 0.5, "debian-policy": 0.5, "crawl-common": 0.5,
    "git-doc": 0.3, "python3.11-doc": 0.15, "libreoffice-help-en-us": 0.15, "": 0.03}

SHINGLE = 13                       # words in a row that count as a copy of the evaluation text
TEXT_NAMES = re.compile(r"\.(html?|page|txt|text|info(-\d+)?|adoc|rst|dict|des|[1-8])(\.gz|\.dz)?$|quiz/|nethackdir/|data/Rdata\.rdb$")
FOREIGN = re.compile(r"[./_-](de|fr|ja|ko|ru|es|it|pt|zh|cs|pl|lt|uk|nl|sv|tr|fi|nb|da|id)([-_][A-Za-z]{2})?\.|/(de|fr|ja|ko|ru|es|it|pt|zh|cs|pl)(-[A-Z]{2})?/")


# --- packages -----------------------------------------------------------------------------------
def unpack(package, folder):
    """Fetches one package (nothing is installed) and unpacks it; returns its folder."""
    out = Path(folder).resolve() / package
    if not out.exists():
        out.mkdir(parents=True)
        subprocess.run(["apt-get", "download", package], cwd=out, check=True,
                       stdout=subprocess.DEVNULL)
        for deb in out.glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", deb, out], check=True)
            deb.unlink()
    return out


def read_bytes(path):
    data = Path(path).read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data


# --- text out of files --------------------------------------------------------------------------
def html_to_text(page):
    page = re.sub(r"(?is)<(script|style|head|pre|table|nav)\b.*?</\1>", " ", page)
    page = re.sub(r"(?i)</?(p|div|h\d|li|dt|dd|ul|ol|dl|blockquote|section|br\s*/?><br)\b[^>]*>", "\n\n", page)
    return html.unescape(re.sub(r"<[^>]+>", "", page))


def man_to_text(page):
    lines = []
    for line in page.splitlines():
        if re.match(r"\.(SH|SS|PP|P|TP|LP|IP|Pp|Sh|Ss|It)\b", line):
            lines.append("")
        if line.startswith((".\\\"", "'\\\"", ".TH", ".SH", ".SS", ".PP", ".TP", ".IP", ".Sh", ".Pp", ".de")):
            continue
        line = re.sub(r"^\.[A-Za-z]+ ?", "", line)
        lines.append(re.sub(r"\\f[A-Z(]|\\&|\\/", "", line).replace("\\-", "-").replace("\\(aq", "'"))
    return "\n".join(lines)


def reflow(text):
    """Each line stripped, the lines of a paragraph joined by a space, one blank line between."""
    paragraphs = re.split(r"\n[ \t]*(?:\n[ \t]*)+", text.replace("\r\n", "\n"))
    joined = (" ".join(line.strip() for line in p.split("\n") if line.strip()) for p in paragraphs)
    return [p for p in joined if p]


def is_prose(paragraph):
    """Most characters are letters, spaces and everyday punctuation, and it is no bare label."""
    if len(paragraph) < 40 or len(paragraph) > 20000:
        return False
    plain = sum(c.isalpha() or c in " ,.;:'\"()-?!" for c in paragraph)
    return plain / len(paragraph) > 0.93 and sum(ord(c) > 0x24f for c in paragraph) < 0.03 * len(paragraph)


def dictionary_entries(text):
    """A .dict file: an entry's first line stands at the margin, the rest is indented."""
    return re.sub(r"\n(?=\S)", "\n\n", text)


def r_strings(data):
    """The character vectors of an R lazy-load database, a line each: zlib streams of serialized objects."""
    lines, at = [], 0
    while (at := data.find(b"\x78\x9c", at)) >= 0:
        stream = zlib.decompressobj()
        try:
            part = stream.decompress(data[at:])
        except zlib.error:
            at += 2
            continue
        at = len(data) - len(stream.unused_data)
        i = 0
        while (i := part.find(b"\x00\x04\x00\x09", i)) >= 0:       # a string's header, then its length
            n = int.from_bytes(part[i + 4:i + 8], "big")
            lines.append(part[i + 8:i + 8 + n].decode("utf-8", "replace"))
            i += 8 + n
        lines.append("")
    return "\n".join(lines)


def file_text(path):
    raw = read_bytes(path)
    if path.name == "Rdata.rdb":
        return r_strings(raw)
    if b"\0" in raw[:4096]:
        return ""
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        text = raw.decode("latin-1")
    name = str(path)
    if re.search(r"\.(html?|page)(\.gz)?$", name):
        return html_to_text(text)
    if re.search(r"\.[1-8](\.gz)?$", name):
        return man_to_text(text)
    if ".dict" in name:
        return dictionary_entries(text)
    return text


def package_documents(root, seen):
    """Yields documents; `seen` holds hashes of the paragraphs taken so far (all packages)."""
    for path in sorted(p for p in Path(root).rglob("*") if p.is_file() and not p.is_symlink()):
        name = "/" + str(path.relative_to(root))
        if not TEXT_NAMES.search(name) or FOREIGN.search(name) or "changelog" in name.lower():
            continue
        kept = []
        for paragraph in reflow(file_text(path)):
            paragraph = re.sub(r"[ \t\u00a0]+", " ", paragraph)
            key = hash(paragraph)
            if is_prose(paragraph) and key not in seen:
                seen.add(key)
                kept.append(paragraph)
        for piece in pieces(kept):
            yield "\n\n".join(piece)


def pieces(paragraphs, least=400, most=60000):
    """A long file becomes several documents, so that a fair share of it can be held out."""
    piece, size = [], 0
    for paragraph in paragraphs:
        piece.append(paragraph)
        size += len(paragraph)
        if size > most:
            yield piece
            piece, size = [], 0
    if size > least:
        yield piece


def build(packages, folder, out):
    """One file a package: OUT/PACKAGE.txt."""
    seen, total = set(), 0
    out = Path(out)
    out.mkdir(parents=True, exist_ok=True)
    for package in packages:
        documents = list(package_documents(unpack(package, folder), seen))
        (out / f"{package}.txt").write_text("".join(d + "\n\n\n" for d in documents), encoding="utf-8")
        size = sum(map(len, documents))
        total += size
        print(f"{package:28} {size:10}", file=sys.stderr)
    print(f"{total} characters -> {out}", file=sys.stderr)


# --- evaluation text, kept apart ----------------------------------------------------------------
def words(text):
    return re.findall(r"[a-z0-9']+", text.lower())


def shingles(text, n=SHINGLE):
    w = words(text)
    return {hash(" ".join(w[i:i + n])) for i in range(len(w) - n + 1)}


def decontaminate(documents, evaluation):
    banned, dropped, out = shingles(evaluation), 0, []
    for document in documents:
        paragraphs = document.split("\n\n")
        kept = [p for p in paragraphs if len(p) < 60 or banned.isdisjoint(shingles(p))]
        dropped += len(paragraphs) - len(kept)
        out.append("\n\n".join(kept))
    print(f"{dropped} paragraphs shared {SHINGLE} words in a row with the evaluation text", file=sys.stderr)
    return [d for d in out if d.strip()]


def read_documents(folder, shares, rng):
    """Documents in the packages' order; `shares` says how many of each package's ("" stands for the others)."""
    documents = []
    for package in BASE + EXTRA:
        share = shares.get(package, shares[""])
        text = (Path(folder) / f"{package}.txt").read_text(encoding="utf-8") if share else ""
        found = [d.strip("\n") for d in re.split(r"\n{3,}", text) if d.strip()]
        documents += found if share >= 1 else [d for d in found if rng.random() < share]
    return documents


def split_held_out(documents, every=100):
    """Every 100th document is held out."""
    held = documents[every - 1::every]
    return [d for i, d in enumerate(documents) if i % every != every - 1], held


# --- variety ------------------------------------------------------------------------------------
def hard_wrap(document, rng):
    """Lines of 60 to 78 columns with a small indent, as plain text files have them."""
    import textwrap
    width, indent = rng.randint(60, 78), " " * rng.choice([0, 0, 0, 2, 3, 4])
    return "\n\n".join(textwrap.fill(p, width, initial_indent=indent, subsequent_indent=indent,
                                     break_long_words=False, break_on_hyphens=False)
                       for p in document.split("\n\n"))


def add_unreflowed(documents, share, rng):
    return [hard_wrap(d, rng) if rng.random() < share else d for d in documents]
