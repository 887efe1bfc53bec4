//! Names of kernel functions by address.
//!
//! A node has some 60 000 function symbols; they are kept as one text and two arrays, about 2 MiB.

/// Address → function, from `/proc/kallsyms`.
#[derive(Debug, Default)]
pub struct Symbols {
    /// Sorted.
    addresses: Vec<u64>,
    /// Where the name of each address ends in `names`; it starts where the one before ends.
    ends: Vec<u32>,
    names: String,
}

impl Symbols {
    /// Reads the text of `/proc/kallsyms`; lines that are none are skipped. Data symbols are left out.
    pub fn parse(text: &[u8]) -> Self {
        let mut found: Vec<(u64, &str)> = text
            .split(|byte| *byte == b'\n')
            .filter_map(function)
            .collect();
        found.sort_by_key(|(address, _)| *address);
        // Aliases: the first name stands for all.
        found.dedup_by_key(|(address, _)| *address);
        let mut symbols = Self {
            addresses: Vec::with_capacity(found.len()),
            ends: Vec::with_capacity(found.len()),
            names: String::with_capacity(found.iter().map(|(_, name)| name.len()).sum()),
        };
        for (address, name) in found {
            symbols.addresses.push(address);
            symbols.names.push_str(name);
            symbols.ends.push(symbols.names.len() as u32);
        }
        symbols
    }

    /// The function an address lies in.
    pub fn lookup(&self, address: u64) -> Option<&str> {
        let index = self
            .addresses
            .partition_point(|start| *start <= address)
            .checked_sub(1)?;
        let start = match index.checked_sub(1) {
            Some(before) => *self.ends.get(before)? as usize,
            None => 0,
        };
        self.names.get(start..*self.ends.get(index)? as usize)
    }

    /// Those of these names that no function has.
    pub fn missing(&self, wanted: &[&'static str]) -> Vec<&'static str> {
        let mut missing = wanted.to_vec();
        let mut start = 0;
        for end in &self.ends {
            let name = self.names.get(start..*end as usize);
            missing.retain(|wanted| name != Some(*wanted));
            if missing.is_empty() {
                break;
            }
            start = *end as usize;
        }
        missing
    }

    /// Unprivileged readers see only zeros, which leaves nothing.
    pub fn is_empty(&self) -> bool {
        self.addresses.is_empty()
    }
}

/// `address type name [module]`.
fn function(line: &[u8]) -> Option<(u64, &str)> {
    let line = std::str::from_utf8(line).ok()?;
    let mut words = line.split_ascii_whitespace();
    let address = u64::from_str_radix(words.next()?, 16)
        .ok()
        .filter(|address| *address != 0)?;
    let is_code = matches!(words.next()?, "t" | "T" | "w" | "W");
    is_code.then_some((address, words.next()?))
}

#[cfg(test)]
mod tests {
    use super::Symbols;

    const TEXT: &str = "ffffffff81000000 T _text\nffffffff81000100 t nft_do_chain\t[nf_tables]\n\
        ffffffff81000200 D jiffies\nffffffff81000300 W ip_rcv\nffffffff81000300 T ip_rcv_alias\nnonsense\n";

    #[test]
    fn an_address_inside_a_function_names_it() {
        let symbols = Symbols::parse(TEXT.as_bytes());
        assert_eq!(symbols.lookup(0xffff_ffff_8100_0100), Some("nft_do_chain"));
        assert_eq!(symbols.lookup(0xffff_ffff_8100_02ff), Some("nft_do_chain"));
        assert_eq!(symbols.lookup(0xffff_ffff_8100_0301), Some("ip_rcv"));
        assert_eq!(symbols.lookup(0xffff_ffff_80ff_ffff), None);
    }

    #[test]
    fn what_no_function_is_called_is_missing() {
        let symbols = Symbols::parse(TEXT.as_bytes());
        let missing = symbols.missing(&["nft_do_chain", "ipt_do_table", "ip_rcv", "_text"]);
        assert_eq!(missing, ["ipt_do_table"]);
    }

    #[test]
    fn hidden_addresses_leave_nothing() {
        let symbols = Symbols::parse(b"0000000000000000 T _text\n0000000000000000 t ip_rcv\n");
        assert!(symbols.is_empty());
        assert_eq!(symbols.lookup(1), None);
    }
}
