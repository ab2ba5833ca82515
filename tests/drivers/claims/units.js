// Units of work of a hundred tenants over one pool of one login, each of which claims its tenant inside its transaction, as
// applications do that have never heard of TenantGate. Prints what it saw, as JSON.
//
//   node units.js pg|prisma units        HOST, PORT, USER, PASSWORD, DATABASE by libpq's variables
'use strict'

const [kind, count] = [process.argv[2], Number(process.argv[3])]
const SETTING = 'app.current_tenant_id'
const CLIENTS = 40

const tenant = (number) => `00000000-0000-0000-0000-${String(number).padStart(12, '0')}`
const connection = {
  host: process.env.PGHOST,
  port: Number(process.env.PGPORT),
  user: process.env.PGUSER,
  password: process.env.PGPASSWORD,
  database: process.env.PGDATABASE,
  max: CLIENTS,
}

// Both run `work` in a transaction, with a claim, a read and a write each; `work` throws to roll back.
function overPg() {
  const { Pool } = require('pg')
  const pool = new Pool(connection)
  const transaction = async (work) => {
    const client = await pool.connect()
    try {
      await client.query('BEGIN')
      const result = await work({
        claim: (value) => client.query(`SELECT set_config('${SETTING}', $1, true)`, [value]),
        read: async () => (await client.query('SELECT id, "tenantId" FROM things')).rows,
        write: (owner) => client.query('INSERT INTO things ("tenantId", name) VALUES ($1, $2)', [owner, 'written']),
      })
      await client.query('COMMIT')
      return result
    } catch (error) {
      await client.query('ROLLBACK')
      throw error
    } finally {
      client.release()
    }
  }
  return { transaction, end: () => pool.end() }
}

function overPrisma() {
  const { PrismaClient } = require('@prisma/client')
  const { PrismaPg } = require('@prisma/adapter-pg')
  const prisma = new PrismaClient({ adapter: new PrismaPg(connection) })
  const transaction = (work) =>
    prisma.$transaction(
      (tx) =>
        work({
          claim: (value) => tx.$executeRaw`SELECT set_config('app.current_tenant_id', ${value}, true)`,
          read: () => tx.things.findMany({ select: { id: true, tenantId: true } }),
          write: (owner) => tx.things.create({ data: { tenantId: owner, name: 'written' } }),
        }),
      { maxWait: 60_000, timeout: 60_000 },
    )
  return { transaction, end: () => prisma.$disconnect() }
}

const seen = { units: 0, rows: 0, foreign: 0, wrong_count: 0, missing: 0, invalid: 0, checked: 0, again: 0, other: [] }

// What an error says, whatever wraps it.
const said = (error) => `${error.code ?? ''} ${error.message} ${JSON.stringify(error.meta ?? error.cause ?? {})}`

async function refused(action, word, count) {
  try {
    await action()
    seen.other.push(`no ${word}`)
  } catch (error) {
    if (said(error).includes(word)) seen[count] += 1
    else seen.other.push(said(error))
  }
}

// Units differ by their number: most work, some forget their claim, some claim nobody, some write for another.
async function unit(db, number) {
  const own = tenant(number % 100)
  const foreign = tenant((number + 1) % 100)
  switch (number % 10) {
    case 7:
      return refused(() => db.transaction((tx) => tx.read()), 'TG130', 'missing')
    case 8:
      return refused(
        () => db.transaction(async (tx) => { await tx.claim(number % 20 === 8 ? '' : 'not-a-uuid'); await tx.read() }),
        'TG131', 'invalid')
    case 9:
      return refused(
        () => db.transaction(async (tx) => { await tx.claim(own); await tx.write(foreign) }),
        'row-level security', 'checked')
  }
  await db.transaction(async (tx) => {
    await tx.claim(own)
    const rows = await tx.read()
    await tx.write(own)
    await tx.claim(own)
    const more = await tx.read()
    seen.units += 1
    // A later unit of the same tenant may be done in between.
    seen.again += more.length > rows.length ? 1 : 0
    seen.rows += rows.length + more.length
    seen.foreign += [...rows, ...more].filter((row) => row.tenantId !== own).length
    seen.wrong_count += rows.length < 3 ? 1 : 0
  })
}

// A widely copied sample: the tenant is set at checkout, for the session, and statements commit by themselves.
async function sessions() {
  const { Pool } = require('pg')
  const pool = new Pool({ ...connection, max: 12 })
  const work = async (number) => {
    const own = tenant(number % 12)
    const client = await pool.connect()
    try {
      await client.query(`SET SESSION ${SETTING} = '${own}'`)
      for (let read = 0; read < 4; read += 1) {
        const { rows } = await client.query('SELECT "tenantId" FROM things')
        seen.units += 1
        seen.rows += rows.length
        seen.foreign += rows.filter((row) => row.tenantId !== own).length
        seen.wrong_count += rows.length < 3 ? 1 : 0
        await new Promise(setImmediate)
      }
    } finally {
      client.release()
    }
  }
  await Promise.all(Array.from({ length: count }, (_, number) => work(number)))
  await pool.end()
}

async function main() {
  if (kind === 'sessions') {
    await sessions()
  } else {
    const db = kind === 'prisma' ? overPrisma() : overPg()
    const all = Array.from({ length: count }, (_, number) => unit(db, number).catch((error) => seen.other.push(said(error))))
    await Promise.all(all)
    await db.end()
  }
  seen.other = [...new Set(seen.other)].slice(0, 5)
  console.log(JSON.stringify(seen))
}

main().catch((error) => { console.error(error); process.exit(1) })
