// A session of node-postgres (pg, its pool, cursor, query stream and COPY streams). Prints what it sees; run directly
// and through TenantGate it must print the same.
'use strict'

const { Client, Pool } = require('pg')
const Cursor = require('pg-cursor')
const QueryStream = require('pg-query-stream')
const { from: copyFrom, to: copyTo } = require('pg-copy-streams')
const { pipeline } = require('node:stream/promises')
const { Readable } = require('node:stream')

const TENANT = process.env.TENANT
const TENANTS = ['a', 'b', 'c'].map((letter) => `00000000-0000-0000-0000-00000000000${letter}`)

const show = (title, value) => console.log(`${title}: ${JSON.stringify(value)}`)

// What the tenant is named by: the user name, or else a startup parameter.
function place(tenant) {
  const user = tenant ? process.env.PGUSER.split('.')[0] : process.env.PGUSER
  return user.includes('.') ? { user } : { user, options: `-c app.tenant_id=${tenant || TENANT}` }
}

async function errorOf(action) {
  try {
    await action
    return 'no error'
  } catch (error) {
    return `${error.code} ${error.message} @${error.position}`
  }
}

async function statements(client) {
  show('rows', (await client.query('SELECT id, name, tenant_id FROM items ORDER BY id')).rows)
  show('parameters', (await client.query('SELECT id FROM items WHERE id > $1 AND name <> $2 ORDER BY id', [1, 'x'])).rows)
  show('arrays', (await client.query({ text: 'SELECT 1, 2', rowMode: 'array' })).rows)
  const both = await client.query('SELECT 1 AS a; SELECT 2 AS b')
  show('both', both.map((result) => result.rows))
  show('error', await errorOf(client.query('SELECT nosuch FROM items')))
  show('unique', await errorOf(client.query("INSERT INTO items (id, name) VALUES (1, 'again')")))
  show('parse error', await errorOf(client.query('SELECT $1::int + $2::int', [1, 'x'])))
  show('types', (await client.query("SELECT now() IS NOT NULL, 1.5::numeric, 2::int8, '{1,2}'::int[], '{\"a\":1}'::jsonb")).rows)
}

async function transactions(client) {
  await client.query('BEGIN')
  await client.query("INSERT INTO items (id, name) VALUES (70, 'kept')")
  await client.query('SAVEPOINT one')
  show('inner', await errorOf(client.query('SELECT 1/0')))
  show('failed', await errorOf(client.query('SELECT 1')))
  await client.query('ROLLBACK TO SAVEPOINT one')
  await client.query('COMMIT')
  await client.query('BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE')
  show('read only', await errorOf(client.query('DELETE FROM items')))
  await client.query('ROLLBACK')
  show('after', (await client.query('SELECT id FROM items ORDER BY id')).rows)
}

async function prepared(client) {
  const query = { name: 'by-id', text: 'SELECT name FROM items WHERE id = $1' }
  const names = []
  for (let number = 0; number < 8; number++) names.push((await client.query({ ...query, values: [1 + (number % 3)] })).rows[0].name)
  show('prepared', names)
  let total = 0
  for (let number = 0; number < 250; number++) {
    const result = await client.query({ name: `s${number}`, text: `SELECT ${number} + $1::int AS sum`, values: [1] })
    total += result.rows[0].sum
  }
  show('many', total)
  show('again', (await client.query({ ...query, values: [2] })).rows)
  show('another text', await errorOf(client.query({ name: 'by-id', text: 'SELECT 1' })))
}

async function kinds(client) {
  const values = ['11111111-1111-1111-1111-111111111111', { a: 1 }, { b: [1, null] }, [1, null, 3], ['x', 'y"z'], new Date(0),
    '12.345', 0.5, Buffer.from([0, 255]), '1 day', '10.0.0.1/8', 'happy', '(Main,7)', '[1,5)', 3, true, '1099511627776']
  await client.query(
    'INSERT INTO kinds (id, doc, docb, ints, texts, moment, price, ratio, raw, span, address, feeling, home, numbers, count, flag,' +
    ' big) VALUES ($1,$2,$3,$4,$5,$6,$7,$8,$9,$10,$11,$12,$13,$14,$15,$16,$17)', values)
  show('kinds', (await client.query('SELECT * FROM kinds')).rows)
  await client.query('DELETE FROM kinds')
  show('type look-up', (await client.query("SELECT oid > 0 AS found, typarray > 0 AS array FROM pg_type WHERE typname = 'mood'")).rows)
}

async function streams(client) {
  const cursor = client.query(new Cursor('SELECT id FROM items ORDER BY id'))
  show('cursor', [await cursor.read(2), await cursor.read(2), await cursor.read(2)])
  await cursor.close()
  const rows = []
  for await (const row of client.query(new QueryStream('SELECT g FROM generate_series(1, 500) g', [], { batchSize: 100 }))) rows.push(row.g)
  show('streamed', rows.length)
  const lines = Array.from({ length: 3000 }, (_, number) => `${number}\tnote ${number}\n`)
  const sink = client.query(copyFrom('COPY plain (id, note) FROM STDIN'))
  await pipeline(Readable.from(lines), sink)
  show('copied', sink.rowCount)
  const out = []
  for await (const chunk of client.query(copyTo('COPY (SELECT id, writer FROM plain ORDER BY id LIMIT 3) TO STDOUT'))) out.push(chunk)
  show('out', Buffer.concat(out).toString())
  show('copy error', await errorOf(pipeline(Readable.from(['bad\tline\n']), client.query(copyFrom('COPY plain (id, note) FROM STDIN')))))
  await client.query('DELETE FROM plain')
}

async function rest(client) {
  const notices = []
  client.on('notice', (notice) => notices.push(`${notice.severity} ${notice.message}`))
  await client.query("SELECT shout('node')")
  show('notices', notices)
  await client.query("SET timezone = 'Asia/Tokyo'")
  show('timezone', (await client.query('SHOW timezone')).rows)
  await client.query("SET statement_timeout = '100ms'")
  show('statement_timeout', await errorOf(client.query('SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100069) b')))
  await client.query('RESET ALL')
  show('reset', (await client.query("SELECT current_setting('timezone') AS timezone, current_setting('statement_timeout') AS timeout")).rows)
  // No cancel in its interface: the process id is the one that the server knows this client by.
  const slow = errorOf(client.query('SELECT count(*) FROM generate_series(1, 100000) a, generate_series(1, 100103) b'))
  // A cancel that comes before the statement is lost.
  const again = setInterval(() => new Client(place()).cancel(client, client._queryQueue[0] || client._activeQuery || client.activeQuery), 500)
  show('cancelled', await slow)
  clearInterval(again)
}

async function pools() {
  const own = TENANTS.map((tenant) => new Pool({ ...place(tenant), max: 5 }))
  const expected = await Promise.all(own.map(async (pool) => (await pool.query('SELECT id FROM items ORDER BY id')).rows.map((row) => row.id)))
  show('whose', expected)
  const wrong = []
  await Promise.all(Array.from({ length: 150 }, async (_, number) => {
    const client = await own[number % 3].connect()
    try {
      await client.query('BEGIN')
      const { rows } = await client.query('SELECT id, tenant_id FROM items WHERE id > $1 ORDER BY id', [0])
      if (JSON.stringify(rows.map((row) => row.id)) !== JSON.stringify(expected[number % 3])) wrong.push([number, rows])
      if (rows.some((row) => row.tenant_id !== TENANTS[number % 3])) wrong.push([number, rows])
      await client.query({ name: 'note', text: 'INSERT INTO plain (id, note) VALUES ($1, $2)', values: [number, TENANTS[number % 3]] })
      await client.query('COMMIT')
    } finally {
      client.release()
    }
  }))
  show('wrong', wrong)
  show('written as', (await own[0].query('SELECT count(*) FROM plain WHERE writer = note')).rows)
  await Promise.all(own.map((pool) => pool.end()))
}

async function main() {
  const client = new Client(place())
  await client.connect()
  for (const part of [statements, transactions, prepared, kinds, streams, rest]) await part(client)
  await client.end()
  await pools()
}

async function refusals() {
  // node-postgres takes TLS only if told to.
  const client = new Client({ ...place(), ssl: { rejectUnauthorized: false } })
  await client.connect()
  show('tls', client.connection.stream.encrypted)
  for (const text of ['LISTEN channel', "SET app.tenant_id = 'x'", 'SELECT lastval()', 'CREATE TEMP TABLE t (id int)']) show(text, await errorOf(client.query(text)))
  show('prepared', await errorOf(client.query({ name: 'x', text: 'LISTEN channel' })))
  show('alive', (await client.query('SELECT count(*) FROM items')).rows)
  await client.end()
}

(process.env.REFUSALS ? refusals() : main()).catch((error) => {
  console.error(error)
  process.exit(1)
})
