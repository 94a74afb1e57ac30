"""Video and messages between a render server and a device.

    encoder.py        RGBA pictures in, H.264 out: the seam, and x264 through PyAV
    hardware.py       encoders in hardware, and which one to use
    allowance.py      how many bits the next frame may have; no I/O
    negotiation.py    offers and answers; no I/O
    packets.py        H.264 in RTP packets and back; no I/O
    rate.py           how fast to send, by what the device reports; no I/O
    jitter.py         packets in any order in, whole frames in order out; no I/O
    sender.py         one stream out: pacing, retransmission, reports
    device.py         the server's side of one device
    receiver.py       a device's side, for Python
    aiortc_hooks.py   ICE, DTLS-SRTP and SCTP: the only file that knows aiortc's and aioice's insides

This room knows nothing of scenes, poses or what messages mean: it carries pictures, text and bytes.
"""
