// A small time plot in SVG: lines over the last half hour, a grid, and a readout under the pointer.
// Knows nothing of crossfade. What is not known (null) or was not seen (nobody looked) is a gap, never a line across it.

const SVG = 'http://www.w3.org/2000/svg';
const HEIGHT = 170;
const EDGE = { left: 58, right: 12, top: 10, bottom: 22 };
const LARGEST_STEP = 6; // seconds between two points that are still one line

const WINDOWS = [300, 600, 900, 1800]; // seconds; as far back as anything is known, and minutes between two marks
const MARKS = { 300: 1, 600: 2, 900: 5, 1800: 5 };
const STEPS = [1, 2, 5];
const SECONDS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];

// Three to five round values from 0 to beyond `largest`; of seconds: as a clock divides them.
export function ticks(largest, ofSeconds = false) {
  const wanted = Math.max(largest, 1e-9) / 4;
  let step = ofSeconds ? SECONDS.find((each) => each >= wanted) : undefined;
  if (step === undefined) {
    const scale = 10 ** Math.floor(Math.log10(wanted));
    step = scale * ([...STEPS, 10].find((each) => each * scale >= wanted * (1 - 1e-9)) ?? 10);
  }
  const top = Math.max(1, Math.ceil(largest / step - 1e-9));
  return Array.from({ length: top + 1 }, (_, at) => Number((at * step).toPrecision(12)));
}

// The `d` of a path; begins anew after every gap. A point alone becomes a dot (a line of no length, round caps).
export function path(points, key, x, y) {
  let d = '';
  let before = null;
  points.forEach((point, index) => {
    const value = point[key];
    if (value === null || value === undefined) {
      before = null;
      return;
    }
    const place = `${x(point.at).toFixed(1)} ${y(value).toFixed(1)}`;
    if (before !== null && point.at - before <= LARGEST_STEP) {
      d += `L${place}`;
    } else {
      d += `M${place}`;
      const next = points[index + 1];
      if (!next || next[key] === null || next[key] === undefined || next.at - point.at > LARGEST_STEP) d += 'h0';
    }
    before = point.at;
  });
  return d;
}

export function nearest(points, at) {
  let low = 0;
  let high = points.length - 1;
  if (high < 0) return null;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (points[middle].at < at) low = middle + 1;
    else high = middle;
  }
  const left = points[Math.max(0, low - 1)];
  return Math.abs(left.at - at) < Math.abs(points[low].at - at) ? left : points[low];
}

function element(name, attributes = {}, parent = null) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (parent) parent.append(made);
  return made;
}

export class Plot {
  // `series`: [{key, label, name}], `name` a class that has a colour. `tell` makes a value of it words.
  constructor(figure, { title, series, tell, least, ofSeconds = false, clock, empty }) {
    Object.assign(this, { title, series, tell, least, ofSeconds, clock, empty });
    this.seconds = WINDOWS[0];
    this.points = [];
    this.now = 0;
    this.pointer = null;
    this.readout = figure.querySelector('.readout');
    const legend = figure.querySelector('.legend');
    for (const { label, name } of series) {
      const entry = document.createElement('span');
      entry.className = `key ${name}`;
      entry.textContent = label;
      legend.append(entry);
    }
    this.svg = element('svg', { role: 'img', height: HEIGHT });
    this.grid = element('g', { class: 'grid', 'aria-hidden': 'true' }, this.svg);
    this.areas = series.map(({ name }) => element('path', { class: `area ${name}` }, this.svg));
    this.lines = series.map(({ name }) => element('path', { class: `line ${name}` }, this.svg));
    this.nothing = element('text', { class: 'nothing', 'text-anchor': 'middle', y: HEIGHT / 2 + 14 }, this.svg);
    this.cross = element('line', { class: 'cross', visibility: 'hidden' }, this.svg);
    figure.append(this.svg);
    this.svg.addEventListener('pointermove', (event) => {
      this.pointer = event.offsetX;
      this.point();
    });
    this.svg.addEventListener('pointerleave', () => {
      this.pointer = null;
      this.point();
    });
    new ResizeObserver(() => this.render()).observe(this.svg);
  }

  draw(points, now) {
    this.points = points;
    this.now = now;
    const known = now - (points[0]?.at ?? now);
    this.seconds = WINDOWS.find((window) => window >= known - 1) ?? WINDOWS[WINDOWS.length - 1];
    this.render();
  }

  render() {
    const width = this.svg.clientWidth;
    if (width === 0) return;
    this.svg.setAttribute('viewBox', `0 0 ${width} ${HEIGHT}`);
    const from = this.now - this.seconds;
    const seen = this.points.filter((point) => point.at >= from);
    const largest = Math.max(this.least, ...this.series.flatMap(({ key }) => seen.map((point) => point[key] ?? 0)));
    const values = ticks(largest, this.ofSeconds);
    const top = values[values.length - 1];
    const right = width - EDGE.right;
    const bottom = HEIGHT - EDGE.bottom;
    this.x = (at) => EDGE.left + ((at - from) / this.seconds) * (right - EDGE.left);
    this.y = (value) => bottom - (value / top) * (bottom - EDGE.top);
    this.seen = seen;
    this.ruled(values, right, bottom);
    this.series.forEach(({ key }, at) => {
      const d = path(seen, key, this.x, this.y);
      this.lines[at].setAttribute('d', d);
      this.areas[at].setAttribute('d', at === 0 ? area(d, bottom) : '');
    });
    const known = this.series.some(({ key }) => seen.some((point) => (point[key] ?? null) !== null));
    this.nothing.textContent = known ? '' : this.empty;
    this.nothing.setAttribute('x', (EDGE.left + right) / 2);
    this.named(seen);
    this.point();
  }

  ruled(values, right, bottom) {
    this.grid.replaceChildren();
    for (const value of values) {
      const y = this.y(value);
      element('line', { x1: EDGE.left, x2: right, y1: y, y2: y }, this.grid);
      element('text', { x: EDGE.left - 8, y: y + 4, 'text-anchor': 'end' }, this.grid).textContent = this.tell(value, true);
    }
    const minutes = this.seconds / 60;
    const every = (MARKS[this.seconds] ?? 5) * (right - EDGE.left < 360 ? 3 : 1);
    for (let minute = 0; minute <= minutes; minute += every) {
      const x = this.x(this.now - minute * 60);
      const anchor = minute === 0 ? 'end' : 'middle';
      const text = minute === 0 ? 'now' : `-${minute} min`;
      element('text', { x, y: bottom + 16, 'text-anchor': anchor }, this.grid).textContent = text;
    }
  }

  named(seen) {
    const last = seen[seen.length - 1];
    const told = this.series.map(({ key, label }) => {
      const known = seen.map((point) => point[key]).filter((value) => value !== null && value !== undefined);
      if (known.length === 0) return `${label}: nothing known`;
      return `${label}: now ${this.tell(last[key])}, highest ${this.tell(Math.max(...known))}`;
    });
    this.svg.setAttribute('aria-label', `${this.title}, last ${this.seconds / 60} minutes. ${told.join('; ')}.`);
  }

  point() {
    const found = this.pointer === null || !this.seen ? null : nearest(this.seen, this.at(this.pointer));
    this.cross.setAttribute('visibility', found ? 'visible' : 'hidden');
    if (!found) {
      this.readout.textContent = '';
      return;
    }
    const x = this.x(found.at);
    for (const [name, value] of [['x1', x], ['x2', x], ['y1', EDGE.top], ['y2', HEIGHT - EDGE.bottom]]) {
      this.cross.setAttribute(name, value);
    }
    const told = this.series.map(({ key }) => this.tell(found[key]));
    this.readout.textContent = `${this.clock(found.at)}: ${told.join(', ')}`;
  }

  at(x) {
    const span = this.x(this.now) - EDGE.left;
    return this.now - this.seconds + ((x - EDGE.left) / span) * this.seconds;
  }
}

// What lies between a line and the bottom: each unbroken stretch closed on its own.
function area(d, bottom) {
  return d
    .split('M')
    .filter((stretch) => stretch !== '' && !stretch.endsWith('h0'))
    .map((stretch) => {
      const places = stretch.split('L');
      const first = places[0].split(' ')[0];
      const last = places[places.length - 1].split(' ')[0];
      return `M${first} ${bottom}L${stretch}L${last} ${bottom}Z`;
    })
    .join('');
}
