//! The ledger's records of transactions that may cross tenants or change the schema.
//!
//! Owns: what a record says and how it is written as one line. Does not own: the file, nor when a record is due.
