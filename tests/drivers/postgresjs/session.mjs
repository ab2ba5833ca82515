// A session of postgres.js. Prints what it sees; run directly and through TenantGate it must print the same.
import { createRequire } from 'node:module'
import { Readable } from 'node:stream'
import { pipeline } from 'node:stream/promises'

// The driver is where NODE_PATH says, which only `require` reads.
const postgres = createRequire(import.meta.url)('postgres')

const TENANT = process.env.TENANT
const TENANTS = ['a', 'b', 'c'].map((letter) => `00000000-0000-0000-0000-00000000000${letter}`)

const show = (title, value) => console.log(`${title}: ${JSON.stringify(value)}`)

function connect(tenant, more = {}) {
  const user = tenant ? process.env.PGUSER.split('.')[0] : process.env.PGUSER
  const connection = user.includes('.') ? {} : { 'app.tenant_id': tenant || TENANT }
  return postgres({ user, password: process.env.PGPASSWORD, connection, ...more })
}

async function errorOf(action) {
  try {
    await action
    return 'no error'
  } catch (error) {
    return `${error.name} ${error.code} ${error.message}`
  }
}

async function statements(sql) {
  show('rows', await sql`SELECT id, name, tenant_id FROM items ORDER BY id`)
  show('parameters', await sql`SELECT id FROM items WHERE id > ${1} AND name <> ${'x'} ORDER BY id`)
  show('fragment', await sql`SELECT ${sql('id')} FROM ${sql('items')} WHERE id IN ${sql([1, 2])} ORDER BY id`)
  show('inserted', await sql`INSERT INTO items ${sql([{ id: 60, name: 'one' }, { id: 61, name: 'two' }])} RETURNING id, tenant_id`)
  show('values', await sql`SELECT id FROM items WHERE id IN ${sql([60, 61])} ORDER BY id`.values())
  await sql`DELETE FROM items WHERE id >= 60`
  show('simple', await sql`SELECT 1 AS a; SELECT 2 AS b`.simple())
  show('unsafe', await sql.unsafe('SELECT $1::int AS x', [3]))
  show('described', (await sql`SELECT id, name FROM items WHERE id = ${1}`.describe()).columns.map((column) => [column.name, column.type]))
  show('error', await errorOf(sql`SELECT nosuch FROM items`))
  show('unique', await errorOf(sql`INSERT INTO items (id, name) VALUES (1, 'again')`))
}

async function transactions(sql) {
  await sql.begin(async (inner) => {
    await inner`INSERT INTO items (id, name) VALUES (70, 'kept')`
    show('savepoint', await errorOf(inner.savepoint(async (deeper) => {
      await deeper`INSERT INTO items (id, name) VALUES (71, 'lost')`
      await deeper`SELECT 1/0`
    })))
  })
  show('rolled back', await errorOf(sql.begin('read only', (inner) => inner`DELETE FROM items`)))
  // Queries of one transaction are sent as a pipeline.
  const counts = await sql.begin((inner) => [inner`SELECT count(*)::int FROM items`, inner`SELECT 2 AS two`, inner`SELECT 3 AS three`])
  show('pipelined', counts)
  show('pipelined error', await errorOf(sql.begin((inner) => [inner`INSERT INTO items (id, name) VALUES (72, 'lost')`, inner`SELECT nosuch`])))
  show('after', await sql`SELECT id FROM items ORDER BY id`)
}

async function prepared(sql) {
  const names = []
  for (let number = 0; number < 8; number++) names.push((await sql`SELECT name FROM items WHERE id = ${1 + (number % 3)}`)[0].name)
  show('prepared', names)
  let total = 0
  for (let number = 0; number < 250; number++) total += (await sql.unsafe(`SELECT ${number} + $1::int AS sum`, [1], { prepare: true }))[0].sum
  show('many', total)
  const all = await Promise.all(Array.from({ length: 60 }, (_, number) => sql`SELECT ${number}::int AS n`))
  show('concurrent', all.reduce((sum, rows) => sum + rows[0].n, 0))
}

async function kinds(sql) {
  // The driver looks up array types by itself (fetch_types).
  await sql`INSERT INTO kinds ${sql({
    id: '11111111-1111-1111-1111-111111111111', doc: sql.json({ a: 1 }), docb: sql.json({ b: [1, null] }), ints: [1, 3], texts: ['x', 'y"z'],
    moment: new Date(0), price: '12.345', ratio: 0.5, raw: Buffer.from([0, 255]), span: '1 day', address: '10.0.0.1/8', feeling: 'happy',
    home: '(Main,7)', numbers: '[1,5)', count: 3, flag: true, big: '1099511627776'
  })}`
  show('kinds', await sql`SELECT * FROM kinds`)
  await sql`DELETE FROM kinds`
}

async function streams(sql) {
  const ids = []
  await sql`SELECT id FROM items ORDER BY id`.cursor(2, (rows) => { ids.push(rows.map((row) => row.id)) })
  show('cursor', ids)
  let count = 0
  await sql`SELECT g FROM generate_series(1, 500) g`.forEach(() => { count++ })
  show('forEach', count)
  const lines = Array.from({ length: 3000 }, (_, number) => `${number}\tnote ${number}\n`)
  await pipeline(Readable.from(lines), await sql`COPY plain (id, note) FROM STDIN`.writable())
  const out = []
  for await (const chunk of await sql`COPY (SELECT id, writer FROM plain ORDER BY id LIMIT 3) TO STDOUT`.readable()) out.push(chunk)
  show('copied', Buffer.concat(out).toString())
  await sql`DELETE FROM plain`
}

async function rest(sql, notices) {
  await sql`SELECT shout('postgres.js')`
  show('notices', notices)
  const slow = sql`SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100109) b`
  setTimeout(() => slow.cancel(), 300)
  show('cancelled', await errorOf(slow))
  show('alive', await sql`SELECT count(*)::int FROM items`)
  const reserved = await sql.reserve()
  await reserved`SET timezone = 'Asia/Tokyo'`
  show('timezone', await reserved`SHOW timezone`)
  await reserved`RESET timezone`
  reserved.release()
}

async function pools() {
  const own = TENANTS.map((tenant) => connect(tenant, { max: 5 }))
  const expected = await Promise.all(own.map(async (sql) => (await sql`SELECT id FROM items ORDER BY id`).map((row) => row.id)))
  show('whose', expected)
  const wrong = []
  await Promise.all(Array.from({ length: 150 }, (_, number) => own[number % 3].begin(async (sql) => {
    const rows = await sql`SELECT id, tenant_id FROM items WHERE id > ${0} ORDER BY id`
    if (JSON.stringify(rows.map((row) => row.id)) !== JSON.stringify(expected[number % 3])) wrong.push([number, rows])
    if (rows.some((row) => row.tenant_id !== TENANTS[number % 3])) wrong.push([number, rows])
    await sql`INSERT INTO plain (id, note) VALUES (${number}, ${TENANTS[number % 3]})`
  })))
  show('wrong', wrong)
  show('written as', await own[0]`SELECT count(*)::int FROM plain WHERE writer = note`)
  await Promise.all(own.map((sql) => sql.end()))
}

async function main() {
  const notices = []
  // One connection: what several would print comes in any order.
  const sql = connect(undefined, { max: 1, onnotice: (notice) => notices.push(`${notice.severity} ${notice.message}`) })
  for (const part of [statements, transactions, prepared, kinds, streams]) await part(sql)
  await rest(sql, notices)
  await sql.end()
  await pools()
}

async function refusals() {
  const sql = connect(undefined, { max: 1, ssl: 'prefer' })
  show('listen', await errorOf(sql.listen('channel', () => {})))
  show('tenant', await errorOf(sql`SET app.tenant_id = 'x'`))
  show('tenant by function', await errorOf(sql`SELECT set_config('app.tenant_id', ${'x'}, true)`))
  show('lastval', await errorOf(sql`SELECT lastval()`))
  show('alive', await sql`SELECT count(*)::int FROM items`)
  await sql.end()
}

await (process.env.REFUSALS ? refusals() : main())
