// The daemon's last log lines, newest first, asked for when somebody wants to see them.

const MOST = 200;
const APART = new Set(['timestamp', 'level', 'event', 'workflow', 'logger', 'traceback']);

// One JSON line as [level, text]; a line that is none, as it is.
export function told(line) {
  let fields;
  try {
    fields = JSON.parse(line);
  } catch {
    return ['info', line];
  }
  const rest = Object.entries(fields)
    .filter(([name, value]) => !APART.has(name) && value !== null && value !== '')
    .map(([name, value]) => `${name}=${typeof value === 'object' ? JSON.stringify(value) : value}`);
  const at = String(fields.timestamp ?? '').slice(11, 19);
  return [fields.level ?? 'info', [at, fields.level ?? '', fields.event ?? '', ...rest].join('  ')];
}

export async function showLog() {
  const list = document.getElementById('log-lines');
  const note = document.getElementById('log-note');
  try {
    const answer = await fetch('api/v1/log', { signal: AbortSignal.timeout(5000) });
    if (!answer.ok) throw new Error(String(answer.status));
    const lines = (await answer.text()).split('\n').filter((line) => line !== '').reverse().slice(0, MOST);
    const key = `${lines.length} ${lines[0] ?? ''}`;
    if (list.dataset.key === key) return;
    list.dataset.key = key;
    list.replaceChildren(
      ...lines.map((line) => {
        const item = document.createElement('li');
        const [level, text] = told(line);
        item.dataset.level = level;
        item.textContent = text;
        return item;
      }),
    );
    note.textContent = lines.length === 0 ? 'Nothing was logged yet.' : 'Newest first, times are UTC.';
  } catch {
    note.textContent = 'The daemon does not answer; what is below is what it said before.';
  }
}
