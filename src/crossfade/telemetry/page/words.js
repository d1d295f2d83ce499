// Numbers, sizes, durations and times in words, as the terminal says them. Pure: null in, a dash out.

const UNKNOWN = '-';
const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'];

export function size(bytes) {
  if (bytes === null || bytes === undefined) return UNKNOWN;
  let amount = bytes;
  let unit = 0;
  while (Math.abs(amount) >= 1024 && unit < UNITS.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${amount.toFixed(unit === 0 ? 0 : 1)} ${UNITS[unit]}`;
}

export function duration(seconds) {
  if (seconds === null || seconds === undefined) return UNKNOWN;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const whole = Math.floor(seconds);
  const minutes = Math.floor(whole / 60);
  if (minutes < 60) return `${minutes} min ${whole % 60} s`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return `${hours} h ${minutes % 60} min`;
  return `${Math.floor(hours / 24)} d ${hours % 24} h`;
}

// Whole seconds, for what is counted while somebody looks on.
export function age(seconds) {
  return seconds < 60 ? `${Math.max(0, Math.floor(seconds))} s` : duration(seconds);
}

export function count(number) {
  if (number === null || number === undefined) return UNKNOWN;
  return Math.round(number).toLocaleString('en-US');
}

export function rate(number) {
  if (number === null || number === undefined) return UNKNOWN;
  return number > 0 && number < 10 ? number.toFixed(1) : count(number);
}

// 03:12:44 of an ISO time or of unix seconds.
export function clock(moment) {
  const iso = typeof moment === 'number' ? new Date(moment * 1000).toISOString() : moment;
  return iso.slice(11, 19);
}

// 2026-11-23 03:12:44.
export function day(moment) {
  return moment.slice(0, 19).replace('T', ' ');
}

// Sentences hold commands in backticks: [text, isCode] pairs.
export function pieces(sentence) {
  return sentence
    .split('`')
    .map((text, at) => [text, at % 2 === 1])
    .filter(([text]) => text !== '');
}
