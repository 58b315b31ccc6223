"""What says in a file that it was generated: IPTC's digital source type, in an XMP packet.

Programs that show or sort pictures read it, and so do sites that label generated media. It says nothing about who made
the file or from what: that is the receipt's to say. The packet is the same in each file, so bytes stay repeatable.
"""

import struct
from pathlib import Path

__all__ = ["DIGITAL_SOURCE_TYPE", "PNG_KEYWORD", "XMP", "append_xmp_to_mp4"]

DIGITAL_SOURCE_TYPE = "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"
"""IPTC's name for media that a trained model made: https://cv.iptc.org/newscodes/digitalsourcetype/."""
XMP = f"""<?xpacket begin="\N{ZERO WIDTH NO-BREAK SPACE}" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/">
<rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description rdf:about="" xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/">
<Iptc4xmpExt:DigitalSourceType>{DIGITAL_SOURCE_TYPE}</Iptc4xmpExt:DigitalSourceType>
</rdf:Description>
</rdf:RDF>
</x:xmpmeta>
<?xpacket end="r"?>""".encode()
"""The packet (ISO 16684-1), which Pillow writes to JPEG and WebP files as it is."""
PNG_KEYWORD = "XML:com.adobe.xmp"
"""The keyword of the text chunk that holds it in a PNG (XMP specification, part 3)."""
MP4_UUID = bytes.fromhex("be7acfcb97a942e89c71999491e3afac")
"""The type of the box that holds it in an mp4 (XMP specification, part 3)."""


def append_xmp_to_mp4(file: Path) -> None:
    """Append the packet to a finished mp4. Players skip the box, and nothing before it moves.

    Raises:
        OSError: the file cannot be written, or the disk is full.
    """
    content = MP4_UUID + XMP
    with file.open("ab") as video:
        video.write(struct.pack(">I4s", 8 + len(content), b"uuid") + content)
