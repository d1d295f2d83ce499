// Writes a status document into the page. Everything is set as text; nothing a database said becomes markup.
// Knows no line and no plots. What did not change is not touched, so that a reader or a selection is not disturbed.

import { age, clock, count, day, duration, pieces, rate, size } from './words.js';

const LEVELS = { ok: 'All is well', working: 'Working', warning: 'Look at it', error: 'Act now' };
const ALERT_LEVELS = { info: 'Note', warning: 'Warning', error: 'Error', critical: 'Critical' };
const JOURNEY = ['setup', 'copy', 'catchup', 'streaming', 'cutover', 'reverse', 'complete'];
const STATES = { running: 0, failed: 0, pending: 1, done: 2 };
const LOST = [
  '`crossfade status`, on any host that reaches both databases, tells how it stands without a daemon.',
  'If no daemon runs, its log says why it ended; `crossfade run` goes on where the target stands. While it is away the source keeps WAL.',
];
const MOST_ROWS = 200;
const FILTER_FROM = 12;

const find = (id) => document.getElementById(id);

function set(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

function put(id, text) {
  set(find(id), text);
}

// A sentence with its commands as code.
function say(node, sentence) {
  if (node.dataset.said === sentence) return;
  node.dataset.said = sentence;
  node.replaceChildren(
    ...pieces(sentence).map(([text, isCode]) => {
      if (!isCode) return document.createTextNode(text);
      const code = document.createElement('code');
      code.textContent = text;
      return code;
    }),
  );
}

// One <li> for each, made and removed as needed.
function list(parent, items, fill) {
  while (parent.children.length > items.length) parent.lastElementChild.remove();
  while (parent.children.length < items.length) parent.append(document.createElement('li'));
  items.forEach((item, at) => fill(parent.children[at], item));
}

let announced = '';
let lost = false;

// For a screen reader: only when the phase, a pause or the level changes, never because a number did.
export function announce(status) {
  const key = [status.phase, status.paused, status.headline.level, status.leader].join();
  if (key === announced) return;
  const first = announced === '';
  announced = key;
  put('announcer', `${first ? '' : 'Changed: '}${status.phase ?? 'not started'}. ${status.headline.text}`);
}

export function showLine({ state, text, sentence }, changed) {
  lost = state === 'lost';
  find('link').dataset.state = state;
  put('link-text', text);
  document.body.classList.toggle('stale', lost);
  if (sentence) {
    find('headline').dataset.level = 'error';
    put('level', 'No connection');
    say(find('headline-text'), sentence);
    title('No connection');
    list(find('steps'), LOST, say);
    find('todo').hidden = false;
    find('todo').dataset.level = 'error';
    if (changed) put('announcer', sentence);
  } else if (changed) {
    announced = '';
  }
}

function title(word) {
  const name = find('name').textContent;
  const text = `${word} - ${name} - crossfade`;
  if (document.title !== text) document.title = text;
}

export function showDocument(status, now) {
  put('name', status.name);
  if (!lost) {
    find('headline').dataset.level = status.headline.level;
    put('level', LEVELS[status.headline.level] ?? status.headline.level);
    say(find('headline-text'), status.headline.text);
    title(status.paused ? 'Paused' : LEVELS[status.headline.level]);
  }
  showJourney(status, now);
  showWrong(status, now);
  showSteps(status);
  showAlerts(status, now);
  showNumbers(status, now);
  showTables(status);
  showFacts(status, now);
}

function showJourney(status, now) {
  const phases = status.phase === 'failed' ? [...JOURNEY, 'failed'] : JOURNEY;
  list(find('journey'), phases, (item, phase) => {
    const here = phase === status.phase;
    const since = here && status.phase_since ? ` for ${age(now - Date.parse(status.phase_since) / 1000)}` : '';
    set(item, phase + since + (here && status.paused ? ', paused' : ''));
    if (here) item.setAttribute('aria-current', 'step');
    else item.removeAttribute('aria-current');
    item.dataset.failed = String(phase === 'failed');
  });
}

function showWrong(status, now) {
  const error = status.error;
  find('wrong').hidden = error === null;
  if (error === null) return;
  say(find('wrong-text'), error.text);
  const retry = error.retry_in_seconds === null ? 'No retry is planned' : `Tried again every ${Math.max(1, Math.round(error.retry_in_seconds))} s`;
  const facts = [
    `Since ${clock(error.since)} UTC (${age(now - Date.parse(error.since) / 1000)})`,
    `component ${error.component}`,
    error.sqlstate ? `SQLSTATE ${error.sqlstate}` : '',
    error.is_transient ? 'known to pass by itself' : 'will not pass by itself',
    retry.toLowerCase(),
  ];
  put('wrong-facts', `${facts.filter(Boolean).join(' · ')}.`);
}

function showSteps(status) {
  find('todo').hidden = status.next_steps.length === 0;
  find('todo').dataset.level = status.headline.level;
  list(find('steps'), status.next_steps, say);
}

function showAlerts(status, now) {
  find('alerts').hidden = status.alerts.length === 0;
  list(find('alert-list'), status.alerts, (item, alert) => {
    if (item.children.length === 0) {
      for (const name of ['word', 'what', 'quiet']) {
        const part = document.createElement('span');
        part.className = name;
        item.append(part, ' ');
      }
    }
    item.dataset.level = alert.level;
    const [word, what, facts] = item.children;
    set(word, ALERT_LEVELS[alert.level] ?? alert.level);
    say(what, alert.text);
    set(facts, `${alert.name}, since ${clock(alert.since)} UTC (${age(now - Date.parse(alert.since) / 1000)})`);
  });
}

function showNumbers(status, now) {
  const { slot, rates, copy, quarantine } = status;
  put('lag', duration(status.lag_seconds));
  put('lag-more', status.lag_bytes === null ? 'not measured yet' : `${size(status.lag_bytes)} behind the source`);
  put('rate', rates.changes_per_second === null ? '-' : `${rate(rates.changes_per_second)} changes/s`);
  const copying = copy.rows_per_second === null ? '' : `, ${rate(copy.rows_per_second)} rows/s copied`;
  put('rate-more', `${rate(rates.transactions_per_second)} transactions/s, ${size(rates.bytes_per_second)}/s${copying}`);
  showSlot(slot);
  showDisks(Object.entries(status.disks ?? {}));
  put('quarantine', count(quarantine.rows));
  put('quarantine-more', quarantine.rows === 0 ? 'no row was set aside' : 'set aside, and not on the target');
  const at = status.verify?.finished_at ?? status.verify?.at ?? null;
  put('verify', status.verify === null ? 'not yet' : String(status.verify.result ?? status.verify.state ?? 'done'));
  put('verify-more', at === null ? 'rows were not compared' : `${age(now - Date.parse(at) / 1000)} ago`);
}

const DISKS = { own: 'of this host', source: 'of the source', target: 'of the target' };

// The one with the least room in large, the rest below.
function showDisks(disks) {
  find('disks-tile').hidden = disks.length === 0;
  if (disks.length === 0) return;
  const shares = disks.map(([name, disk]) => [disk.free_bytes / disk.capacity_bytes, DISKS[name] ?? name, disk]);
  shares.sort((a, b) => a[0] - b[0]);
  put('disks', `${Math.floor(shares[0][0] * 100)} %`);
  const told = shares.map(([share, name, disk], at) => {
    const percent = at === 0 ? '' : `${Math.floor(share * 100)} % `;
    return `${percent}${name}: ${size(disk.free_bytes)} of ${size(disk.capacity_bytes)}`;
  });
  put('disks-more', told.join('; '));
}

function showSlot(slot) {
  const meter = find('slot-meter');
  const limited = slot !== null && slot.wal_keep_limit !== null && slot.wal_keep_limit > 0;
  meter.hidden = !limited;
  if (slot === null) {
    put('slot', '-');
    put('slot-more', 'not looked at yet');
    return;
  }
  if (!slot.exists) {
    put('slot', 'none');
    put('slot-more', `${slot.name} does not exist`);
    return;
  }
  put('slot', `${size(slot.retained_bytes)} kept`);
  const active = slot.active ? 'in use' : 'not in use';
  if (limited) {
    const share = Math.min(1, slot.retained_bytes / slot.wal_keep_limit);
    meter.value = share;
    meter.title = `${Math.round(share * 100)} %`;
    const left = slot.safe_wal_size === null ? slot.wal_keep_limit - slot.retained_bytes : slot.safe_wal_size;
    put('slot-more', `${Math.round(share * 100)} % of ${size(slot.wal_keep_limit)}, ${size(Math.max(0, left))} left; ${active}, ${slot.wal_status || 'unknown'}`);
  } else {
    put('slot-more', `of the source's WAL, without a limit; ${active}, ${slot.wal_status || 'unknown'}`);
  }
}

function showTables(status) {
  const { copy, tables } = status;
  const copying = copy.tables_total > 0 && copy.percent !== 100;
  const bar = find('copy-bar');
  bar.hidden = !copying;
  if (copying && copy.percent !== null) bar.value = copy.percent;
  else bar.removeAttribute('value');
  put('copy-line', copyLine(copy, copying));
  find('filter').hidden = tables.length < FILTER_FROM;
  const wanted = find('filter').value.trim().toLowerCase();
  const matching = tables.filter((table) => `${table.source} ${table.target}`.toLowerCase().includes(wanted));
  // What is under way first; otherwise as the document has them.
  const order = matching.map((table, at) => [STATES[table.state] ?? 0, at, table]);
  order.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const shown = order.slice(0, MOST_ROWS).map(([, , table]) => table);
  rows(find('rows'), shown, copy);
  const hidden = matching.length - shown.length;
  const missing = tables.length - matching.length;
  const parts = [];
  if (tables.length === 0) parts.push('No tables are known yet.');
  if (hidden > 0) parts.push(`${count(hidden)} more match; filter by name to see them.`);
  if (missing > 0) parts.push(`${count(missing)} do not match the filter.`);
  put('tables-more', parts.join(' '));
}

function copyLine(copy, copying) {
  if (copy.tables_total === 0) return '';
  const noun = copy.tables_total === 1 ? 'table' : 'tables';
  if (!copying) return `${count(copy.tables_total)} ${noun} copied: ${count(copy.rows)} rows, ${size(copy.bytes)}.`;
  const percent = copy.percent === null ? '' : `${copy.percent.toFixed(1)} %, `;
  const left = copy.eta_seconds === null ? '' : `, about ${duration(copy.eta_seconds)} left`;
  return `${percent}${count(copy.tables_done)} of ${count(copy.tables_total)} tables, ${count(copy.rows)} rows at ${rate(copy.rows_per_second)} rows/s${left}.`;
}

const COLUMNS = 10;

function rows(body, tables, copy) {
  while (body.children.length > tables.length) body.lastElementChild.remove();
  while (body.children.length < tables.length) {
    const row = document.createElement('tr');
    for (let at = 0; at < COLUMNS; at += 1) {
      const cell = document.createElement(at === 0 ? 'th' : 'td');
      if (at === 0) cell.scope = 'row';
      if (at >= 4) cell.className = 'number';
      row.append(cell);
    }
    const bar = document.createElement('progress');
    bar.max = 100;
    row.children[3].append(bar, document.createElement('span'));
    body.append(row);
  }
  const running = tables.filter((table) => table.state === 'running').length || 1;
  tables.forEach((table, at) => fillRow(body.children[at], table, copy.rows_per_second, running));
}

// Statistics may promise fewer rows than there are: nothing is called complete before it is done.
export function percentOf(table) {
  if (table.state === 'done') return 100;
  if (table.rows_estimated <= 0) return table.rows_copied > 0 ? null : 0;
  return Math.min(99.9, (100 * table.rows_copied) / table.rows_estimated);
}

function fillRow(row, table, speed, running) {
  const [source, target, state, copied, done, estimated, left, inserted, updated, deleted] = row.children;
  row.dataset.state = table.state;
  set(source, table.source);
  set(target, table.target);
  set(state, table.state);
  const percent = percentOf(table);
  const [bar, words] = copied.children;
  if (percent === null) bar.removeAttribute('value');
  else bar.value = percent;
  bar.setAttribute('aria-label', `Copy of ${table.source}`);
  set(words, percent === null ? 'running' : `${percent === 100 ? 100 : percent.toFixed(1)} %`);
  set(done, count(table.rows_copied));
  set(estimated, table.rows_estimated > 0 ? count(table.rows_estimated) : '-');
  const missing = Math.max(0, table.rows_estimated - table.rows_copied);
  const known = table.state === 'running' && speed > 0 && missing > 0;
  set(left, known ? duration(missing / (speed / running)) : '');
  set(inserted, count(table.changes.insert));
  set(updated, count(table.changes.update));
  set(deleted, count(table.changes.delete));
}

function showFacts(status, now) {
  const { positions, daemon } = status;
  const facts = [
    ['Received', positions.received ?? '-'],
    ['Applied', positions.applied ?? '-'],
    ['Durable', positions.durable ?? '-'],
    ['Acknowledged', positions.acknowledged ?? '-'],
    ['Daemon', daemon === null ? 'none' : `${daemon.host}, process ${daemon.pid}, version ${daemon.version}`],
    ['Runs since', daemon === null ? '-' : `${day(daemon.started_at)} UTC (${age(now - Date.parse(daemon.started_at) / 1000)})`],
    ['Role', status.leader ? 'leader' : 'does not lead'],
    ['As of', `${day(status.at)} UTC`],
  ];
  const parent = find('facts');
  if (parent.children.length === 0) {
    for (const [name] of facts) {
      const group = document.createElement('div');
      const term = document.createElement('dt');
      term.textContent = name;
      group.append(term, document.createElement('dd'));
      parent.append(group);
    }
  }
  facts.forEach(([, text], at) => set(parent.children[at].lastElementChild, text));
}

// The plots' numbers for whoever reads them: the newest minute first.
export function showMinutes(points) {
  const minutes = new Map();
  for (const point of points) {
    const minute = Math.floor(point.at / 60) * 60;
    if (!minutes.has(minute)) minutes.set(minute, []);
    minutes.get(minute).push(point);
  }
  const told = [...minutes].reverse();
  const body = find('minutes');
  while (body.children.length > told.length) body.lastElementChild.remove();
  while (body.children.length < told.length) {
    const row = document.createElement('tr');
    row.append(document.createElement('th'), ...Array.from({ length: 4 }, () => document.createElement('td')));
    row.firstElementChild.scope = 'row';
    for (const cell of [...row.children].slice(1)) cell.className = 'number';
    body.append(row);
  }
  told.forEach(([minute, seen], at) => {
    const cells = body.children[at].children;
    set(cells[0], clock(minute).slice(0, 5));
    set(cells[1], duration(largest(seen, 'lag_seconds')));
    set(cells[2], rate(average(seen, 'changes_per_second')));
    set(cells[3], rate(average(seen, 'rows_per_second')));
    set(cells[4], size(largest(seen, 'retained_bytes')));
  });
}

function known(points, key) {
  return points.map((point) => point[key]).filter((value) => value !== null && value !== undefined);
}

export function largest(points, key) {
  const values = known(points, key);
  return values.length ? Math.max(...values) : null;
}

export function average(points, key) {
  const values = known(points, key);
  return values.length ? values.reduce((sum, value) => sum + value, 0) / values.length : null;
}
