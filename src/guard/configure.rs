//! `SELECT set_config('jit', 'off', false)`: the one form in which a function may change a setting.
//!
//! Drivers and frameworks set ordinary settings this way (asyncpg: jit, Django: TimeZone). It is as good as a SET
//! where everything is in sight: a select list and nothing else, in it calls with a constant name, a constant or
//! bound value and a constant `is_local`, each evaluated exactly once; beside them only constants and
//! `current_setting`. Everywhere else, and in every other form, `set_config` is refused by its name.
//!
//! Owns: recognising the form. Does not own: which settings may be set (`policy`) or recording it (the session).

use super::facts::{Configuration, ConfiguredValue};
use super::parser::{Kind, tree};
use super::settings;
use super::walk;

/// The settings that a SELECT changes, if it has the form; other targets are constants and `current_setting`.
pub(super) fn configurations(select: &tree::SelectStmt) -> Option<Box<[Configuration]>> {
    if select.target_list.len() > TARGETS_MAX {
        return None;
    }
    let mut configurations = Vec::new();
    for node in &select.target_list {
        match target(node)? {
            Target::Configures(configuration) => configurations.push(configuration),
            Target::Reads => {}
        }
    }
    (!configurations.is_empty() && is_plain_select(select)).then(|| configurations.into())
}

/// Whether there is a select list and nothing else.
pub(super) fn is_plain_select(select: &tree::SelectStmt) -> bool {
    let plain = tree::SelectStmt {
        target_list: select.target_list.clone(),
        limit_option: select.limit_option,
        op: select.op,
        ..tree::SelectStmt::default()
    };
    *select == plain
}

/// More targets than any driver sets at once.
const TARGETS_MAX: usize = 32;

enum Target {
    Configures(Configuration),
    Reads,
}

fn target(node: &tree::Node) -> Option<Target> {
    let Some(Kind::ResTarget(target)) = &node.node else { return None };
    let tree::ResTarget { name: _, indirection, val, location: _ } = &**target;
    if !indirection.is_empty() {
        return None;
    }
    let value = val.as_ref()?.node.as_ref()?;
    if let Kind::AConst(_) = value {
        return Some(Target::Reads);
    }
    // Fails closed: the walk sees anything else as any other SELECT.
    let Kind::FuncCall(call) = value else { return None };
    configuring_call(call)
}

fn configuring_call(call: &tree::FuncCall) -> Option<Target> {
    if call.args.len() > 3 || !is_plain_call(call) {
        return None;
    }
    let parts = walk::name_parts(&call.funcname);
    let name = match parts.as_slice() {
        [name] | ["pg_catalog", name] if parts.len() == call.funcname.len() => *name,
        _ => return None,
    };
    match (name, call.args.as_slice()) {
        ("current_setting", [name] | [name, _]) => text_constant(name).map(|_| Target::Reads),
        ("set_config", [name, value, local]) => Some(Target::Configures(Configuration {
            name: setting_name(text_constant(name)?)?,
            value: configured_value(value)?,
            local: boolean_constant(local)?,
        })),
        _ => None,
    }
}

/// Whether there are arguments and nothing else: no `DISTINCT`, `FILTER`, `OVER`, `VARIADIC`.
pub(super) fn is_plain_call(call: &tree::FuncCall) -> bool {
    let plain = tree::FuncCall {
        funcname: call.funcname.clone(),
        args: call.args.clone(),
        funcformat: call.funcformat,
        location: call.location,
        ..tree::FuncCall::default()
    };
    *call == plain
}

/// The canonical name, of those letters only that need no quotes where the proxy says `SET name`.
pub(super) fn setting_name(name: &str) -> Option<Box<str>> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.');
    name.bytes().all(is_plain).then(|| settings::canonical_name(name))
}

fn configured_value(node: &tree::Node) -> Option<ConfiguredValue> {
    if let Some(Kind::ParamRef(parameter)) = &node.node {
        let number = u16::try_from(parameter.number).ok().filter(|number| *number > 0)?;
        return Some(ConfiguredValue::Parameter(number));
    }
    text_constant(node).map(|text| ConfiguredValue::Text(text.into()))
}

fn text_constant(node: &tree::Node) -> Option<&str> {
    let tree::a_const::Val::Sval(text) = constant(node)? else { return None };
    Some(&text.sval)
}

fn boolean_constant(node: &tree::Node) -> Option<bool> {
    let tree::a_const::Val::Boolval(value) = constant(node)? else { return None };
    Some(value.boolval)
}

fn constant(node: &tree::Node) -> Option<&tree::a_const::Val> {
    let Kind::AConst(constant) = node.node.as_ref()? else { return None };
    constant.val.as_ref()
}
