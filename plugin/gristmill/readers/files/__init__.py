"""From a path to lines of text: what there is to read, and how its bytes become characters.

    folders      paths, patterns and folders → files, each with the key of its ids; what is passed over, counted
    source       a file → bytes: counted for the progress bar, decompressed, bounded
    compression  .gz .zst .bz2 .xz → bytes
    encoding     bytes → characters: which encoding that is, and what is no text at all
    lines        characters → numbered lines, bounded
    notes        what a reading has to say besides its documents

Nothing here knows a format.
"""
