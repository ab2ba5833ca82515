//! Functions that clients call by number, in the message FunctionCall.
//!
//! The numbers of PostgreSQL's own functions are the same in every release. Those here are what client libraries call for
//! large objects, and nothing else is called so; whatever other number is unknown. As SQL each is judged and recorded like
//! any statement that calls it by name.
//!
//! Owns: which number is which call. Does not own: who may call it (the policy).

/// The statement that calls the function of a number by its name.
#[must_use]
pub const fn call_of_number(number: u32) -> Option<&'static str> {
    Some(match number {
        715 => "SELECT pg_catalog.lo_create($1)",
        952 => "SELECT pg_catalog.lo_open($1, $2)",
        953 => "SELECT pg_catalog.lo_close($1)",
        954 => "SELECT pg_catalog.loread($1, $2)",
        955 => "SELECT pg_catalog.lowrite($1, $2)",
        956 => "SELECT pg_catalog.lo_lseek($1, $2, $3)",
        957 => "SELECT pg_catalog.lo_creat($1)",
        958 => "SELECT pg_catalog.lo_tell($1)",
        964 => "SELECT pg_catalog.lo_unlink($1)",
        1004 => "SELECT pg_catalog.lo_truncate($1, $2)",
        3170 => "SELECT pg_catalog.lo_lseek64($1, $2, $3)",
        3171 => "SELECT pg_catalog.lo_tell64($1)",
        3172 => "SELECT pg_catalog.lo_truncate64($1, $2)",
        _ => return None,
    })
}
