// Sends commands at 60 a second and reads their numbers back from what is on the screen, in each animation frame.
// `path.py` says what a command and a mark are. Nothing of a peer's own client is replaced, only listened to.
(() => {
  const bytes = { received: 0 };
  const NativeSocket = window.WebSocket;
  window.WebSocket = class extends NativeSocket {
    constructor(...args) {
      super(...args);
      this.addEventListener("message", ({ data }) => {
        bytes.received += typeof data === "string" ? data.length : (data.byteLength ?? data.size);
      });
    }
  };
  const peers = [];
  const NativePeer = window.RTCPeerConnection;
  window.RTCPeerConnection = class extends NativePeer {
    constructor(...args) {
      super(...args);
      peers.push(this);
    }
  };

  async function mediaBytes() {
    let sum = 0;
    for (const peer of peers) {
      for (const report of (await peer.getStats()).values()) {
        if (report.type === "inbound-rtp" && report.kind === "video") sum += report.bytesReceived + report.headerBytesReceived;
      }
    }
    return sum;
  }

  // What a peer's page shows: the number in the mark, or undefined.
  function markReader({ cells, cell, selector }) {
    const canvas = new OffscreenCanvas(cells * cell, cell);
    const context = canvas.getContext("2d", { willReadFrequently: true });
    return () => {
      let element;
      for (const candidate of document.querySelectorAll(selector)) {
        if ((candidate.naturalWidth ?? candidate.videoWidth ?? candidate.width) > 0 && candidate.checkVisibility()) element = candidate;
      }
      if (!element) return undefined;
      const width = element.naturalWidth ?? (element.videoWidth || element.width);
      const scale = width / 1280;
      try {
        context.drawImage(element, 0, 0, cells * cell * scale, cell * scale, 0, 0, cells * cell, cell);
      } catch {
        return undefined;
      }
      const pixels = context.getImageData(0, cell / 2, cells * cell, 1).data;
      const bits = [];
      for (let index = 0; index < cells; index++) bits.push(pixels[(index * cell + cell / 2) * 4 + 1] > 127);
      if (!bits[0] || bits[cells - 1]) return undefined;
      return bits.slice(1, -1).reduce((sum, bit) => sum * 2 + (bit ? 1 : 0), 0);
    };
  }

  // As the peer's own client gets pointers.
  function pointerSender({ firstX, target }) {
    return (number) => {
      const element = document.querySelector(target);
      const place = { clientX: firstX + number, clientY: 400, bubbles: true, cancelable: true, view: window };
      element.dispatchEvent(new PointerEvent("pointermove", { ...place, pointerId: 1, pointerType: "mouse", isPrimary: true }));
      element.dispatchEvent(new MouseEvent("mousemove", place));
    };
  }

  // Farframe's page has no mark: the frames' records say which pose they show.
  function farframeReader(numbers) {
    let newest;
    return () => {
      const entry = window.farframeViewer.lastShown;
      if (entry && entry !== newest) {
        newest = entry;
        farframeBytes += entry.record.encodedBytes;
      }
      return newest && numbers.get(newest.record.poseId);
    };
  }
  let farframeBytes = 0;

  window.peerProbe = {
    seen: () => undefined,
    prepare(settings) {
      this.settings = settings;
      this.seen = settings.farframe ? farframeReader((this.numbers = new Map())) : markReader(settings);
      this.send = settings.farframe
        ? (number) => {
            const connection = window.farframeViewer.connection;
            connection.setPose(settings.views[number]);
            this.pending = number;
            requestAnimationFrame(() => this.numbers.set(connection.poseId, number));
          }
        : pointerSender(settings);
    },
    // Moves for `seconds` and says what came of it. The first `warmUp` seconds count for nothing.
    async run({ seconds, warmUp, commands }) {
      const sentAt = new Map();
      const latencies = [];
      const gaps = [];
      let number = 0;
      let last;
      let lastAt;
      let distinct = 0;
      const begin = performance.now();
      const countFrom = begin + warmUp * 1000;
      const end = countFrom + seconds * 1000;
      let bytesBefore;
      let sent = 0;
      await new Promise((resolve) => {
        const timer = setInterval(() => {
          const now = performance.now();
          const due = Math.floor(((now - begin) / 1000) * 60);
          if (due <= sent) return;
          sent = due;
          number = due % commands;
          sentAt.set(number, now);
          this.send(number);
        }, 4);
        const look = () => {
          const now = performance.now();
          if (bytesBefore === undefined && now >= countFrom) {
            bytesBefore = -1;
            mediaBytes().then((media) => {
              bytesBefore = bytes.received + media;
              this.farframeBefore = farframeBytes;
            });
          }
          const seen = this.seen();
          if (seen !== undefined && seen !== last && sentAt.has(seen)) {
            last = seen;
            if (now >= countFrom) {
              distinct++;
              latencies.push(now - sentAt.get(seen));
              if (lastAt !== undefined) gaps.push(now - lastAt);
              lastAt = now;
            }
          }
          if (now < end) requestAnimationFrame(look);
          else {
            clearInterval(timer);
            resolve();
          }
        };
        requestAnimationFrame(look);
      });
      const wire = bytes.received + (await mediaBytes()) - bytesBefore;
      return { distinct, seconds, latencies, gaps, wire, encoded: farframeBytes - this.farframeBefore };
    },
  };
})();
