// The import that the user prepares: its file and all decisions about it. It is kept in the browser (IndexedDB), so that a
// reload or an ended session loses nothing. There is one draft for each target.
//
//   file, name        the file as the user chose it
//   body              the file, compressed for the upload
//   options           query parameters of its import: columns, sheet, encoding, locale, decimal, mode, on_existing
//   result            the API's answer to the dry run
//   step              "columns" or "check"
//   rehearsal         the ID of the job that has tried the rows
//   id                of the draft
//   listed            the rows with errors, if the check is a dry run: [{index, line, row}]
//   corrections       the corrected fields of rows of the file, by index
//   keys              the Idempotency-Key of each request, by its parameters
//   unconfirmed       the parameters of an import that was sent without a clear answer

import { API, USER, uuid } from "./page.js";

const MAX_AGE_MS = 24 * 3600 * 1000;

export let draft = null;

function request(mode, act) {
  return new Promise((resolve) => {
    if (!globalThis.indexedDB) return resolve(null);
    const opening = indexedDB.open("import-page", 1);
    opening.onupgradeneeded = () => opening.result.createObjectStore("drafts");
    opening.onerror = () => resolve(null); // some browsers have none in private windows: the page then forgets on reload
    opening.onsuccess = () => {
      const transaction = opening.result.transaction("drafts", mode);
      const asked = act(transaction.objectStore("drafts"));
      transaction.oncomplete = () => resolve(asked.result);
      transaction.onerror = transaction.onabort = () => resolve(null);
    };
  });
}

// Loads the draft of this target, unless it is old or another user's.
export async function load() {
  const found = await request("readonly", (store) => store.get(API));
  draft = found && found.user === USER && Date.now() - found.savedAt < MAX_AGE_MS ? found : null;
  if (found && !draft) await remove(found.id);
  return draft;
}

export async function start(values) {
  draft = { ...values, options: {}, result: null, listed: [], step: "columns", rehearsal: null, corrections: {}, keys: {}, unconfirmed: null };
  draft.id = uuid();
  await save();
  return draft;
}

export async function save(values = {}) {
  if (!draft) return;
  Object.assign(draft, values, { user: USER, savedAt: Date.now() });
  const stored = { ...draft };
  await request("readwrite", (store) => store.put(stored, API));
}

export async function clear() {
  const id = draft?.id;
  draft = null;
  await remove(id);
}

// Another tab may have stored a draft of its own meanwhile, which stays.
function remove(id) {
  return request("readwrite", (store) => {
    const found = store.get(API);
    found.onsuccess = () => found.result?.id === id && store.delete(API);
    return found;
  });
}
