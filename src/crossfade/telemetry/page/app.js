// Puts the page together: what the line tells goes into the view and the plots; keeps the last half hour.

import { Live } from './live.js';
import { showLog } from './log.js';
import { Plot } from './plot.js';
import { announce, showDocument, showLine, showMinutes } from './view.js';
import { age, clock, duration, rate } from './words.js';

const KEPT = 1800; // seconds
const RELOAD_AFTER_MS = 60000;
let points = [];
let latest = null; // the newest document
let taken = 0; // when it came, by performance.now()
let version = null;
let stale = false;

const find = (id) => document.getElementById(id);
const plots = [
  new Plot(find('plot-lag'), {
    title: 'Lag',
    series: [{ key: 'lag_seconds', label: 'Lag', name: 'one' }],
    tell: (value, short) => (short ? brief(value) : duration(value)),
    least: 1,
    ofSeconds: true,
    clock,
    empty: 'Not measured yet.',
  }),
  new Plot(find('plot-rate'), {
    title: 'Throughput',
    series: [
      { key: 'changes_per_second', label: 'Changes applied/s', name: 'one' },
      { key: 'rows_per_second', label: 'Rows copied/s', name: 'two' },
    ],
    tell: (value, short) => (short ? thousands(value) : rate(value)),
    least: 10,
    clock,
    empty: 'Nothing known yet.',
  }),
];

function brief(seconds) {
  if (seconds < 60) return `${seconds} s`;
  return seconds < 3600 ? `${seconds / 60} min` : `${seconds / 3600} h`;
}

function thousands(value) {
  if (value >= 1e6) return `${value / 1e6} M`;
  return value >= 1e3 ? `${value / 1e3} k` : String(value);
}

// The daemon's clock, so that ages do not depend on ours.
function now() {
  return latest === null ? Date.now() / 1000 : Date.parse(latest.at) / 1000 + (performance.now() - taken) / 1000;
}

function keep(more) {
  points.push(...more);
  const from = (points[points.length - 1]?.at ?? 0) - KEPT;
  if (points.length && points[0].at < from) points = points.filter((point) => point.at >= from);
}

function draw() {
  for (const plot of plots) plot.draw(points, points[points.length - 1]?.at ?? now());
  if (find('plot-table').open) showMinutes(points);
}

const live = new Live({
  status(document) {
    // Another version of the daemon brings another version of this page; where two take turns, not every second.
    const served = document.daemon?.version ?? version;
    version ??= served;
    if (served !== version && performance.now() > RELOAD_AFTER_MS) {
      location.reload();
      return;
    }
    latest = document;
    taken = performance.now();
    if (live.state === 'asking') {
      keep([fromDocument(document)]);
      draw();
    }
    announce(document);
    showDocument(document, now());
  },
  history(told) {
    // A daemon that was started again knows nothing of what the one before it did; we do.
    const first = told[0]?.at ?? now();
    points = points.filter((point) => point.at < first);
    keep(told);
    draw();
  },
  point(point) {
    keep([point]);
    draw();
  },
  state() {
    tell();
  },
});

function fromDocument(document) {
  return {
    at: Date.parse(document.at) / 1000,
    lag_seconds: document.lag_seconds,
    lag_bytes: document.lag_bytes,
    changes_per_second: document.rates.changes_per_second,
    bytes_per_second: document.rates.bytes_per_second,
    rows_per_second: document.copy.rows_per_second,
    retained_bytes: document.slot?.retained_bytes ?? null,
  };
}

// How the line is, and while there is none, since when, each second.
function tell() {
  const since = live.since / 1000;
  const lost = live.state === 'lost';
  const line = { state: live.state, text: 'Live', sentence: '' };
  if (live.state === 'connecting') line.text = 'Connecting';
  if (live.state === 'asking') line.text = 'Live, every few seconds';
  if (lost) {
    const old = latest ? ` What is below is from ${clock(latest.at)} UTC, ${age(now() - Date.parse(latest.at) / 1000)} ago.` : '';
    line.text = 'Connection lost';
    line.sentence = `${live.saidGoodbye ? 'The daemon was stopped' : 'Connection lost'}, retrying since ${clock(since)} UTC (${age(Date.now() / 1000 - since)}).${old}`;
  } else if (live.state === 'connecting' && Date.now() / 1000 - since > 3) {
    line.sentence = `No answer yet, trying since ${clock(since)} UTC. Is the daemon running? \`crossfade status\` on its host tells.`;
  }
  showLine(line, lost !== stale);
  stale = lost;
  if (!lost && latest) showDocument(latest, now());
}

setInterval(tell, 1000);
find('plot-table').addEventListener('toggle', () => showMinutes(points));
find('log').addEventListener('toggle', () => find('log').open && showLog());
setInterval(() => find('log').open && showLog(), 5000);
find('filter').addEventListener('input', () => latest && showDocument(latest, now()));
