// The live connection: status, events and the newest images, with reconnection.

import { readPicture } from "./image.js";

const FIRST_WAIT_S = 0.5;
const LONGEST_WAIT_S = 8;
// The status comes twice a second: silence this long means that nobody is there.
const SILENCE_S = 10;

/**
 * @typedef {object} Handlers
 * @property {(status: any) => void} onStatus
 * @property {(event: any) => void} onEvent
 * @property {(picture: import("./image.js").Picture) => void | Promise<void>} onPicture
 * @property {(state: "open" | "lost", waitS: number) => void} onConnection
 */

/** One websocket after the other, until the page is closed. */
export class Live {
  /** @param {Handlers} handlers */
  constructor(handlers) {
    this.handlers = handlers;
    this.wanted = { raw: true, phase: true, channel: 0, max_px: 1024 };
    /** @type {WebSocket | null} */
    this.socket = null;
    this.waitS = FIRST_WAIT_S;
    this.timer = 0;
    this.lastHeard = 0;
    setInterval(() => this.#hangUpOnSilence(), 1000);
  }

  connect() {
    clearTimeout(this.timer);
    this.socket?.close();
    const scheme = location.protocol === "https:" ? "wss" : "ws";
    const socket = new WebSocket(`${scheme}://${location.host}/api/live`);
    socket.binaryType = "arraybuffer";
    socket.onopen = () => {
      this.waitS = FIRST_WAIT_S;
      this.lastHeard = performance.now();
      this.#send({ type: "want", ...this.wanted });
      this.handlers.onConnection("open", 0);
    };
    socket.onmessage = ({ data }) => this.#receive(data);
    socket.onclose = () => {
      if (socket === this.socket) this.#retry();
    };
    this.socket = socket;
  }

  /** Say what is looked at. @param {Partial<Live["wanted"]>} wanted */
  want(wanted) {
    this.wanted = { ...this.wanted, ...wanted };
    this.#send({ type: "want", ...this.wanted });
  }

  #retry() {
    this.socket = null;
    this.handlers.onConnection("lost", this.waitS);
    this.timer = setTimeout(() => this.connect(), this.waitS * 1000);
    this.waitS = Math.min(this.waitS * 1.6, LONGEST_WAIT_S);
  }

  #hangUpOnSilence() {
    const silent = performance.now() - this.lastHeard > SILENCE_S * 1000;
    if (this.socket?.readyState === WebSocket.OPEN && silent) this.socket.close();
  }

  /** @param {string | ArrayBuffer} data */
  async #receive(data) {
    this.lastHeard = performance.now();
    if (typeof data !== "string") {
      const picture = readPicture(data);
      // The acknowledgement asks for the next one: only when this one is on the screen.
      await this.handlers.onPicture(picture);
      this.#sendText(`{"type":"ack","kind":"${picture.kind}","seq":${picture.seq}}`);
      return;
    }
    const message = JSON.parse(data);
    if (message.type === "status") {
      this.handlers.onStatus(message);
    } else if (message.type === "event") {
      this.handlers.onEvent(message);
    }
  }

  /** @param {object} message */
  #send(message) {
    this.#sendText(JSON.stringify(message));
  }

  /** @param {string} text */
  #sendText(text) {
    if (this.socket?.readyState === WebSocket.OPEN) this.socket.send(text);
  }
}
