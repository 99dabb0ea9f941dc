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
rust-doc spamassassin doc-debian installation-guide-amd64 debmake-doc abs-guide clc-intercal
fortunes-bofh-excuses fortunes-debian-hints purity aptitude-doc-en mutt slrn tin
inn2 uucp sendmail-doc fvwm3 texinfo cvs slib clisp-doc cmucl-docs haskell98-report swi-prolog-doc
nasm elinks-doc gitmagic slashem-common nethack-spoilers endless-sky-data
r-cran-tokenizers golang-1.19-doc gtypist info lynx-common jed-common jove
netpbm lintian apt-doc mailman3-doc rt4-doc-html privoxy tor groff gnupg openssl
docbook-xsl-doc-html mit-scheme-doc guile-3.0-doc scheme48-doc gnuplot-doc""".split()

# Of the largest reference manuals and dictionaries only a share of the documents is taken.
SHARES = {"linux-doc-6.1": 0.3, "python3.11-doc": 0.4, "racket-doc": 0.5, "ada-reference-manual-2012": 0.4, "dict-wn": 0.7}

SHINGLE = 13                       # words in a row that count as a copy of the evaluation text
TEXT_NAMES = re.compile(r"\.(html?|page|txt|text|info(-\d+)?|adoc|rst|dict|des|[1-8])(\.gz|\.dz)?$|quiz/|nethackdir/|games/(fortunes|purity)/[a-z-]+$|data/Rdata\.rdb$")
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
def table_to_text(table):
    """A table of words as text browsers draw it, one line a row (reflowing joins them); "" where it lays out a page."""
    rows = [[" ".join(html.unescape(re.sub(r"<[^>]+>", " ", cell)).split()) for cell in re.split(r"(?i)<t[dh]\b[^>]*>", row)[1:]]
            for row in re.split(r"(?i)<tr\b[^>]*>", table)[1:]]
    rows = [row for row in rows if row]
    columns = max(map(len, rows), default=0)
    width = [max((len(row[i]) for row in rows if i < len(row)), default=0) for i in range(columns)]
    if not 2 <= columns <= 7 or len(rows) < 2 or sum(width) > 90 or not sum(width) or "<table" in table[6:]:
        return ""
    def line(left, middle, right):
        return left + middle.join("─" * (w + 2) for w in width) + right
    body = ["│" + "│".join(f" {row[i] if i < len(row) else '':{w}} " for i, w in enumerate(width)) + "│" for row in rows[:24]]
    return "\n".join([line("┌", "┬", "┐"), ("\n" + line("├", "┼", "┤") + "\n").join(body), line("└", "┴", "┘")])


def html_to_text(page):
    page = re.sub(r"(?is)<(script|style|head|pre|nav)\b.*?</\1>", " ", page)
    page = re.sub(r"(?is)<table\b.*?</table>", lambda m: "\n\n" + html.escape(table_to_text(m[0])) + "\n\n", page)
    page = re.sub(r"(?i)<li\b[^>]*>\s*(<p\b[^>]*>)?", "\n\n• ", page)
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
    """Most characters are letters, digits, spaces and everyday punctuation, in a Latin script, and it is no bare label."""
    if not 15 <= len(paragraph) <= 20000 or " " not in paragraph:
        return False
    if paragraph[0] == "┌":
        return True
    letters = sum(c.isalpha() for c in paragraph)
    plain = letters + sum(c in " ,.;:'\"()-?!“”‘’—•0123456789[]" for c in paragraph)
    return (plain > 0.93 * len(paragraph) and letters > 0.6 * len(paragraph)
            and sum(ord(c) > 0x24f for c in paragraph if c.isalpha()) < 0.03 * len(paragraph))


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
            if paragraph[0] != "┌":
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


def read_documents(folder, rng):
    """Documents in the packages' order, of each package the share that SHARES names (all by default)."""
    documents = []
    for package in BASE + EXTRA:
        share = SHARES.get(package, 1)
        text = (Path(folder) / f"{package}.txt").read_text(encoding="utf-8")
        found = [d.strip("\n") for d in re.split(r"\n{3,}", text) if d.strip()]
        documents += [d for d in found if share == 1 or rng.random() < share]
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


def typographic(document):
    """Straight quotes, double hyphens and bullets as a typesetter writes them."""
    text = re.sub(r"(``|\"(?=\S))([^\"`\n]{1,400}?\S)(\"|\'\')", "“\\2”", document)
    text = re.sub(r"(?<![\w'])[`']([^`'\n]{1,60}?)'(?!\w)", "‘\\1’", text)
    text = re.sub(r" (--|—) |(?<=\w)--(?=\w)", "—", text)
    text = re.sub(r"(?m)^• ?", "•\u00a0", text)
    return re.sub(r"(?m)^(Chapter|Part|Appendix|Section|Table|Figure) (\w{1,5})\. ", "\\1\u00a0\\2.\u00a0", text)


def vary(documents, unreflowed, rng):
    """Of all documents, 60 % typographic and the share `unreflowed` hard-wrapped."""
    documents = [typographic(d) if rng.random() < 0.6 else d for d in documents]
    return [hard_wrap(d, rng) if rng.random() < unreflowed else d for d in documents]
