"""Kinds of files in an image folder, by name and by how they begin; and which names belong to systems, not to people.

Nothing here opens a file or decodes an image.
"""

import unicodedata

# What is read: Pillow's name for each format, and the endings that people give it.
READABLE = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "WEBP": (".webp",),
    "BMP": (".bmp", ".dib"),
    "GIF": (".gif",),
    "TIFF": (".tif", ".tiff"),
    "AVIF": (".avif", ".avifs"),
    "PPM": (".ppm", ".pgm", ".pbm", ".pnm"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".jpf", ".jpc"),
    "QOI": (".qoi",),
    "PSD": (".psd",),
    "ICO": (".ico",),
    "ICNS": (".icns",),
    "DDS": (".dds",),
    "PCX": (".pcx",),
    "SGI": (".sgi", ".rgb", ".bw"),
}
READABLE_ENDINGS = {ending: name for name, endings in READABLE.items() for ending in endings}

# Images that are not read, by ending.
UNREADABLE_ENDINGS = {
    **dict.fromkeys((".heic", ".heif", ".hif"), "HEIC"),
    ".jxl": "JPEG XL",
    **dict.fromkeys((".svg", ".svgz"), "SVG"),
    **dict.fromkeys((".dcm", ".dicom"), "DICOM"),
    **{ending: ending[1:].upper() for ending in (".tga", ".exr", ".hdr", ".xcf", ".eps", ".wmf", ".fits")},
    **dict.fromkeys(
        (".cr2", ".cr3", ".nef", ".nrw", ".arw", ".dng", ".raf", ".orf", ".rw2", ".srw", ".pef", ".raw"), "raw camera"
    ),
}

# What is no image: named in an account by these kinds.
OTHER_ENDINGS = {
    **dict.fromkeys((".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".3gp", ".mpg", ".mpeg"), "videos"),
    **dict.fromkeys((".zip", ".tar", ".gz", ".tgz", ".bz2", ".xz", ".7z", ".rar", ".zst"), "archives"),
    **dict.fromkeys(
        (".txt", ".md", ".csv", ".tsv", ".json", ".jsonl", ".xml", ".yaml", ".yml", ".html", ".htm", ".pdf", ".py",
         ".ipynb", ".mat", ".pkl", ".log", ".toml", ".doc", ".docx", ".xlsx", ".aae", ".xmp", ".m", ".sh"),
        "other files",
    ),
}  # fmt: skip

_SYSTEM_FOLDERS = frozenset(
    {
        "__macosx", "@eadir", ".@__thumb", "@recycle", "#recycle", "$recycle.bin", "recycler", "lost+found",
        "system volume information", ".ipynb_checkpoints", "__pycache__", "@tmp", "#snapshot", "@recently-snapshot",
    }
)  # fmt: skip
_SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "ehthumbs_vista.db", "desktop.ini", "icon\r", "picasa.ini"})


def is_system(name: str) -> bool:
    """Whether a file or folder is an operating system's, a network drive's or a program's own."""
    low = name.lower()
    return low in _SYSTEM_FOLDERS or low in _SYSTEM_FILES


def is_hidden(name: str) -> bool:
    """Whether a file or folder is hidden from people."""
    return name.startswith(".")


def plain(name: str) -> str:
    """A name by which two are the same for people: accents composed (NFC), however a system has written them."""
    return unicodedata.normalize("NFC", name)


def is_text(name: str) -> bool:
    """Whether a name is text in UTF-8, as every file of a release is."""
    return not any("\ud800" <= character <= "\udfff" for character in name)


def format_of(head: bytes) -> str | None:
    """What a file is by its first 132 bytes: a format of READABLE, another kind for people, or None."""
    for kind, beginnings in _BEGINNINGS.items():
        if head.startswith(beginnings):
            return kind
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "WEBP"
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], "video")
    if head[:1] == b"P" and head[1:2] in b"123456" and head[2:3].isspace():
        return "PPM"
    if head[:1] == b"\n" and head[1:2] in b"\0\2\3\5" and head[2:3] == b"\1":
        return "PCX"
    if head[128:132] == b"DICM":
        return "DICOM"
    low = head.lstrip().lower()
    if low.startswith((b"<!doctype html", b"<html")):
        return "web page"
    if low.startswith(b"<svg") or b"<svg" in low:
        return "SVG"
    return None


_BEGINNINGS = {
    "PNG": (b"\x89PNG\r\n\x1a\n",),
    "JPEG": (b"\xff\xd8\xff",),
    "GIF": (b"GIF8",),
    "BMP": (b"BM",),
    "TIFF": (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
    "JPEG2000": (b"\xff\x4f\xff\x51", b"\0\0\0\x0cjP  \r\n\x87\n"),
    "QOI": (b"qoif",),
    "PSD": (b"8BPS",),
    "ICO": (b"\0\0\1\0",),
    "ICNS": (b"icns",),
    "DDS": (b"DDS ",),
    "SGI": (b"\x01\xda",),
    "JPEG XL": (b"\xff\x0a", b"\0\0\0\x0cJXL \r\n\x87\n"),
}
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "AVIF"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"), "HEIC"),
}
# The kinds that `format_of` knows and that show something, though they are not read.
UNREADABLE_FORMATS = frozenset({"HEIC", "JPEG XL", "DICOM", "SVG"})
