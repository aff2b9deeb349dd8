// The Node.js driver does an application's work. usage: node clients.js HOST PORT
'use strict';
const assert = require('node:assert');
const cassandra = require('cassandra-driver');

async function main() {
  const [host, port] = process.argv.slice(2);
  const client = new cassandra.Client({ contactPoints: [`${host}:${port}`], localDataCenter: 'datacenter1' });
  await client.connect();
  const run = (query, values) => client.execute(query, values, { prepare: Boolean(values) });
  await run("CREATE KEYSPACE IF NOT EXISTS node_app WITH replication = {'class': 'SimpleStrategy', 'replication_factor': 1}");
  await run('CREATE TABLE node_app.t (k int, c timeuuid, v text, m map<text, bigint>, PRIMARY KEY (k, c))');
  for (let i = 0; i < 250; i++) {
    await run('INSERT INTO node_app.t (k, c, v, m) VALUES (?, ?, ?, ?)', [1, cassandra.types.TimeUuid.now(), `row ${i}`, { a: i }]);
  }
  let rows = 0;
  for await (const row of client.stream('SELECT * FROM node_app.t WHERE k = ?', [1], { prepare: true, fetchSize: 40 })) {
    assert.ok(row.v.startsWith('row ') && row.m.a !== undefined);
    rows++;
  }
  assert.strictEqual(rows, 250);
  await client.batch([
    { query: 'INSERT INTO node_app.t (k, c, v) VALUES (?, ?, ?)', params: [2, cassandra.types.TimeUuid.now(), 'x'] },
    { query: 'INSERT INTO node_app.t (k, c, v) VALUES (?, ?, ?)', params: [2, cassandra.types.TimeUuid.now(), 'y'] },
  ], { prepare: true });
  assert.strictEqual((await run('SELECT * FROM node_app.t WHERE k = ?', [2])).rowLength, 2);
  await assert.rejects(run('SELECT nope FROM node_app.t'), (error) => error.code === cassandra.types.responseErrorCodes.invalid);
  const table = await client.metadata.getTable('node_app', 't');
  assert.deepStrictEqual(table.clusteringKeys.map((column) => column.name), ['c']);
  await run('DROP KEYSPACE node_app');
  await client.shutdown();
  console.log('the Node.js driver found everything as it should be');
}

main().catch((error) => { console.error(error); process.exit(1); });
