// The line to the daemon: server-sent events, and what becomes of the page while there are none.
// States: connecting (never heard), live, asking (events are refused; the document is asked for instead), lost.

const SILENCE_MS = 6000; // the daemon speaks every second: after this it is gone, or the line is
const REOPEN_MS = 2000;
const ASK_MS = 5000; // how long an answer may take

export class Live {
  // `told` has status(document), history({fields, points}), point(values), state(name, since).
  constructor(told) {
    this.told = told;
    this.fields = [];
    this.state = 'connecting';
    this.since = Date.now();
    this.heard = 0;
    this.source = null;
    this.saidGoodbye = false;
    setInterval(() => this.watch(), 1000);
    this.open();
  }

  open() {
    this.source?.close();
    this.opened = Date.now();
    const source = new EventSource('api/v1/events');
    this.source = source;
    source.addEventListener('status', (event) => this.hear(() => this.told.status(JSON.parse(event.data))));
    source.addEventListener('history', (event) => this.hear(() => this.remember(JSON.parse(event.data))));
    source.addEventListener('point', (event) => this.hear(() => this.told.point(this.named(JSON.parse(event.data)))));
    source.addEventListener('goodbye', () => {
      this.saidGoodbye = true;
    });
    source.addEventListener('error', () => {
      if (source !== this.source) return;
      this.lose();
      // The browser tries again by itself, unless it was refused: then we do, and ask meanwhile.
      if (source.readyState === EventSource.CLOSED) this.refused();
    });
  }

  hear(take) {
    this.heard = Date.now();
    this.saidGoodbye = false;
    this.enter('live');
    take();
  }

  remember({ fields, points }) {
    this.fields = fields;
    this.told.history(points.map((point) => this.named(point)));
  }

  named(values) {
    return Object.fromEntries(this.fields.map((field, at) => [field, values[at]]));
  }

  lose() {
    if (this.state === 'live' || this.state === 'asking') this.enter('lost');
  }

  enter(state) {
    if (state !== this.state) {
      this.state = state;
      this.since = Date.now();
      this.told.state(state, this.since);
    }
  }

  // A half-open line tells nothing, and neither does a machine that slept.
  watch() {
    if (this.state === 'live' && Date.now() - this.heard > SILENCE_MS) {
      this.lose();
      this.open();
    } else if (this.state === 'lost' && Date.now() - this.opened > SILENCE_MS && Date.now() - this.since > SILENCE_MS) {
      // Some browsers wait longer and longer; somebody is looking at us.
      this.open();
    }
  }

  async refused() {
    if (this.asks) return;
    this.asks = true;
    try {
      while (this.source.readyState === EventSource.CLOSED) {
        await this.ask();
        await new Promise((resolve) => setTimeout(resolve, REOPEN_MS));
        if (this.source.readyState === EventSource.CLOSED) {
          this.open();
          await new Promise((resolve) => setTimeout(resolve, REOPEN_MS / 4));
        }
      }
    } finally {
      this.asks = false;
    }
  }

  async ask() {
    try {
      const answer = await fetch('api/v1/status', { signal: AbortSignal.timeout(ASK_MS) });
      if (!answer.ok) throw new Error(String(answer.status));
      const status = await answer.json();
      this.heard = Date.now();
      this.enter('asking');
      this.told.status(status);
    } catch {
      this.lose();
    }
  }
}
