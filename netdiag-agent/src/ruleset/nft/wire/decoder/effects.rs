//! Statements that change the packet or its connection, with values from registers.

use serde_json::{Value, json};

use super::super::attr::Attributes;
use super::super::datatype::{IPV4, IPV6, PORT, Type};
use super::super::field::Part;
use super::Decoder;

impl Decoder<'_> {
    /// `meta … set`, `ct … set`
    pub(super) fn mangle(&mut self, source: u32, part: &Part) -> Option<()> {
        let value = self.value(source, part.of)?;
        self.does(json!({"mangle": {"key": part.left, "value": value}}));
        Some(())
    }

    /// `enum nft_nat_attributes`
    pub(super) fn nat(&mut self, body: Attributes<'_>) -> Option<()> {
        let name = if body.u32(1)? == 0 { "snat" } else { "dnat" };
        let (family, address) = match body.u32(2)? {
            10 => ("ip6", &IPV6),
            _ => ("ip", &IPV4),
        };
        let mut statement = json!({});
        if let Some(address) = self.span(body, (3, 4), address)? {
            statement["family"] = json!(family);
            statement["addr"] = address;
        }
        if let Some(port) = self.span(body, (5, 6), &PORT)? {
            statement["port"] = port;
        }
        self.does(json!({ name: statement }));
        Some(())
    }

    /// `masquerade`, `redirect`: `port` is the attribute of the lowest port, the highest follows it.
    pub(super) fn translate(&mut self, name: &str, body: Attributes<'_>, port: u16) -> Option<()> {
        let ports = self.span(body, (port, port + 1), &PORT)?;
        let statement = ports.map_or(Value::Null, |port| json!({ "port": port }));
        self.does(json!({ name: statement }));
        Some(())
    }

    /// The registers of a lowest and a highest value; they may be the same.
    #[expect(
        clippy::option_option,
        reason = "not there is not the same as not known"
    )]
    fn span(
        &self,
        body: Attributes<'_>,
        (low, high): (u16, u16),
        of: &Type,
    ) -> Option<Option<Value>> {
        let Some(register) = body.u32(low) else {
            return Some(None);
        };
        let first = self.value(register, of)?;
        let Some(register) = body.u32(high) else {
            return Some(Some(first));
        };
        let last = self.value(register, of)?;
        Some(Some(if last == first {
            first
        } else {
            json!({"range": [first, last]})
        }))
    }

    fn value(&self, register: u32, of: &Type) -> Option<Value> {
        self.register(register)?.value(of, self.context)
    }
}
