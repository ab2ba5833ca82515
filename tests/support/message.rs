//! What a client sends, as bytes: <https://www.postgresql.org/docs/current/protocol-message-formats.html>

/// A parameter of Bind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Null,
    Text(String),
    Binary(Vec<u8>),
}

/// One message of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message {
    Query(String),
    Parse { name: String, sql: String, types: Vec<u32> },
    Bind { portal: String, statement: String, values: Vec<Value>, binary_results: bool },
    DescribeStatement(String),
    DescribePortal(String),
    Execute { portal: String, rows_max: u32 },
    CloseStatement(String),
    ClosePortal(String),
    Sync,
    Flush,
    CopyData(Vec<u8>),
    CopyDone,
    CopyFail(String),
    FunctionCall { function: u32, values: Vec<String> },
    Terminate,
    Raw(Vec<u8>),
}

fn text(into: &mut Vec<u8>, value: &str) {
    into.extend_from_slice(value.as_bytes());
    into.push(0);
}

fn short(into: &mut Vec<u8>, value: usize) {
    into.extend_from_slice(&u16::try_from(value).expect("a short count").to_be_bytes());
}

fn sized(into: &mut Vec<u8>, value: &[u8]) {
    into.extend_from_slice(&u32::try_from(value.len()).expect("a short value").to_be_bytes());
    into.extend_from_slice(value);
}

fn framed(tag: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![tag];
    bytes.extend_from_slice(&u32::try_from(body.len() + 4).expect("a message of 4 GiB").to_be_bytes());
    bytes.extend_from_slice(body);
    bytes
}

fn bind_body(portal: &str, statement: &str, values: &[Value], binary_results: bool) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, portal);
    text(&mut body, statement);
    short(&mut body, values.len());
    for value in values {
        short(&mut body, usize::from(matches!(value, Value::Binary(_))));
    }
    short(&mut body, values.len());
    for value in values {
        match value {
            Value::Null => body.extend_from_slice(&(-1_i32).to_be_bytes()),
            Value::Text(value) => sized(&mut body, value.as_bytes()),
            Value::Binary(value) => sized(&mut body, value),
        }
    }
    short(&mut body, 1);
    short(&mut body, usize::from(binary_results));
    body
}

impl Message {
    /// An unnamed Bind of text values with text results.
    pub fn bind(statement: &str, values: &[&str]) -> Self {
        Message::Bind {
            portal: String::new(),
            statement: statement.to_owned(),
            values: values.iter().map(|value| Value::Text((*value).to_owned())).collect(),
            binary_results: false,
        }
    }

    /// A Parse without parameter types.
    pub fn parse(name: &str, sql: &str) -> Self {
        Message::Parse { name: name.to_owned(), sql: sql.to_owned(), types: Vec::new() }
    }

    /// An Execute of the unnamed portal without a limit.
    pub fn execute() -> Self {
        Message::Execute { portal: String::new(), rows_max: 0 }
    }

    /// The bytes on the wire.
    pub fn bytes(&self) -> Vec<u8> {
        let mut body = Vec::new();
        let tag = match self {
            Message::Query(sql) => {
                text(&mut body, sql);
                b'Q'
            }
            Message::Parse { name, sql, types } => {
                text(&mut body, name);
                text(&mut body, sql);
                short(&mut body, types.len());
                types.iter().for_each(|oid| body.extend_from_slice(&oid.to_be_bytes()));
                b'P'
            }
            Message::Bind { portal, statement, values, binary_results } => {
                body = bind_body(portal, statement, values, *binary_results);
                b'B'
            }
            Message::DescribeStatement(name) => kind_and_name(&mut body, b'S', name, b'D'),
            Message::DescribePortal(name) => kind_and_name(&mut body, b'P', name, b'D'),
            Message::CloseStatement(name) => kind_and_name(&mut body, b'S', name, b'C'),
            Message::ClosePortal(name) => kind_and_name(&mut body, b'P', name, b'C'),
            Message::Execute { portal, rows_max } => {
                text(&mut body, portal);
                body.extend_from_slice(&rows_max.to_be_bytes());
                b'E'
            }
            Message::Sync => b'S',
            Message::Flush => b'H',
            Message::CopyDone => b'c',
            Message::Terminate => b'X',
            Message::CopyData(data) => {
                body.extend_from_slice(data);
                b'd'
            }
            Message::CopyFail(reason) => {
                text(&mut body, reason);
                b'f'
            }
            Message::FunctionCall { function, values } => {
                body.extend_from_slice(&function.to_be_bytes());
                short(&mut body, 0);
                short(&mut body, values.len());
                values.iter().for_each(|value| sized(&mut body, value.as_bytes()));
                short(&mut body, 0);
                b'F'
            }
            Message::Raw(bytes) => return bytes.clone(),
        };
        framed(tag, &body)
    }
}

fn kind_and_name(body: &mut Vec<u8>, kind: u8, name: &str, tag: u8) -> u8 {
    body.push(kind);
    text(body, name);
    tag
}

/// A startup packet of protocol 3.0.
pub fn startup(parameters: &[(String, String)]) -> Vec<u8> {
    let mut body = 196_608_u32.to_be_bytes().to_vec();
    for (name, value) in parameters {
        text(&mut body, name);
        text(&mut body, value);
    }
    body.push(0);
    let mut bytes = u32::try_from(body.len() + 4).expect("a short packet").to_be_bytes().to_vec();
    bytes.extend_from_slice(&body);
    bytes
}

/// A cancel request.
pub fn cancel(pid: u32, secret: &[u8]) -> Vec<u8> {
    let mut bytes = u32::try_from(12 + secret.len()).expect("a short key").to_be_bytes().to_vec();
    bytes.extend_from_slice(&80_877_102_u32.to_be_bytes());
    bytes.extend_from_slice(&pid.to_be_bytes());
    bytes.extend_from_slice(secret);
    bytes
}

/// A password message (also for SASL responses).
pub fn password(body: &[u8]) -> Vec<u8> {
    framed(b'p', body)
}

/// The first SASL message: the mechanism and the client's first words.
pub fn sasl_initial(mechanism: &str, first: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    text(&mut body, mechanism);
    sized(&mut body, first);
    framed(b'p', &body)
}
