//! Just enough DNS for one question and its answer. The name asked for decides the answer.

use std::net::IpAddr;

use anyhow::{Context, Result, ensure};

pub const NOERROR: u8 = 0;
pub const SERVFAIL: u8 = 2;
pub const NXDOMAIN: u8 = 3;

const HEADER: usize = 12;
const TYPE_A: u16 = 1;
const TYPE_AAAA: u16 = 28;
const CLASS_IN: u16 = 1;

/// A query with one question and recursion desired.
pub fn query(id: u16, name: &str, v6: bool) -> Result<Vec<u8>> {
    let mut message = Vec::with_capacity(HEADER + name.len() + 6);
    message.extend(id.to_be_bytes());
    message.extend([0x01, 0x00, 0, 1, 0, 0, 0, 0, 0, 0]);
    for label in name.trim_end_matches('.').split('.') {
        ensure!(
            (1..=63).contains(&label.len()),
            "{name}: a label of {} bytes",
            label.len()
        );
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(if v6 { TYPE_AAAA } else { TYPE_A }.to_be_bytes());
    message.extend(CLASS_IN.to_be_bytes());
    Ok(message)
}

/// Identifier and return code of an answer.
pub fn answer(message: &[u8]) -> Result<(u16, u8)> {
    ensure!(
        message.len() >= HEADER,
        "an answer of {} bytes",
        message.len()
    );
    ensure!(message[2] & 0x80 != 0, "a query where an answer was due");
    Ok((
        u16::from_be_bytes([message[0], message[1]]),
        message[3] & 0x0f,
    ))
}

/// What the lab's server says: names under `silent.` get nothing, `nx.` and `fail.` an error, all others `address`.
pub fn reply(query: &[u8], address: IpAddr) -> Option<Vec<u8>> {
    let (name, end) = name(query).ok()?;
    let code = match name.split('.').next() {
        Some("silent") => return None,
        Some("nx") => NXDOMAIN,
        Some("fail") => SERVFAIL,
        _ => NOERROR,
    };
    let question = query.get(..end + 4)?;
    let asked = u16::from_be_bytes([question[end], question[end + 1]]);
    let data = match address {
        IpAddr::V4(address) if asked == TYPE_A => address.octets().to_vec(),
        IpAddr::V6(address) if asked == TYPE_AAAA => address.octets().to_vec(),
        _ => Vec::new(),
    };
    let with_answer = code == NOERROR && !data.is_empty();
    let mut message = question.to_vec();
    message[2] |= 0x80;
    message[3] = 0x80 | code;
    message[4..HEADER].copy_from_slice(&[0, 1, 0, u8::from(with_answer), 0, 0, 0, 0]);
    if with_answer {
        // A pointer to the question's name, then type, class, a TTL of five seconds and the address.
        message.extend([0xc0, HEADER as u8]);
        message.extend(asked.to_be_bytes());
        message.extend(CLASS_IN.to_be_bytes());
        message.extend(5_u32.to_be_bytes());
        message.extend((data.len() as u16).to_be_bytes());
        message.extend(data);
    }
    Some(message)
}

/// The name of the first question and where its type begins.
fn name(message: &[u8]) -> Result<(String, usize)> {
    let mut labels = Vec::new();
    let mut at = HEADER;
    loop {
        let length = usize::from(*message.get(at).context("the name runs past the message")?);
        at += 1;
        if length == 0 {
            return Ok((labels.join("."), at));
        }
        ensure!(length < 64, "a compressed name in a question");
        let label = message
            .get(at..at + length)
            .context("a label runs past the message")?;
        labels.push(String::from_utf8_lossy(label).into_owned());
        at += length;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(text: &str) -> Option<(u16, u8)> {
        let address = IpAddr::from([192, 0, 2, 5]);
        let message = query(77, text, false).expect("a valid name");
        reply(&message, address).map(|reply| answer(&reply).expect("a valid reply"))
    }

    #[test]
    fn the_name_decides_the_answer() {
        assert_eq!(ask("web.example"), Some((77, NOERROR)));
        assert_eq!(ask("nx.example"), Some((77, NXDOMAIN)));
        assert_eq!(ask("fail.example"), Some((77, SERVFAIL)));
        assert_eq!(ask("silent.example"), None);
    }

    #[test]
    fn a_cut_query_gets_no_answer() {
        let message = query(1, "web.example", true).expect("a valid name");
        for end in 0..message.len() {
            assert_eq!(reply(&message[..end], IpAddr::from([1, 2, 3, 4])), None);
        }
    }
}
