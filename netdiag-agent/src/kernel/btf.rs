//! The running kernel's own description of its types: offsets of struct members, names of enum values, arguments of
//! tracepoints.
//!
//! Pure and total: any bytes may come in, and what cannot be read is absent. The types of a module build on those of
//! `vmlinux` ("split BTF"), so a second blob may be added.

use std::collections::HashMap;

use thiserror::Error;

const MAGIC: u16 = 0xeb9f;
const TYPE_LEN: usize = 12;
/// Nesting of anonymous members and chains of typedefs and qualifiers; real ones stay below ten.
const MAX_DEPTH: usize = 32;

const KIND_INT: u8 = 1;
const KIND_PTR: u8 = 2;
const KIND_ARRAY: u8 = 3;
const KIND_STRUCT: u8 = 4;
const KIND_UNION: u8 = 5;
const KIND_ENUM: u8 = 6;
const KIND_TYPEDEF: u8 = 8;
const KIND_VOLATILE: u8 = 9;
const KIND_CONST: u8 = 10;
const KIND_RESTRICT: u8 = 11;
const KIND_FUNC: u8 = 12;
const KIND_FUNC_PROTO: u8 = 13;
const KIND_VAR: u8 = 14;
const KIND_DATASEC: u8 = 15;
const KIND_DECL_TAG: u8 = 17;
const KIND_TYPE_TAG: u8 = 18;
const KIND_ENUM64: u8 = 19;

#[derive(Debug, Error, PartialEq, Eq)]
pub enum BtfError {
    #[error("the header is no BTF header of this machine's byte order")]
    Header,
    #[error("the type section ends in the middle of a type")]
    Truncated,
}

/// Type information over borrowed bytes.
pub struct Btf<'a> {
    blobs: Vec<Blob<'a>>,
    /// Type id → blob and position of the type in it; id 0 is `void`.
    types: Vec<(u8, u32)>,
    /// First type of each name and class.
    names: HashMap<(Class, &'a [u8]), u32>,
}

struct Blob<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    /// Offset of the first string in the numbering shared with the blobs before.
    strings_from: u32,
}

/// The namespaces of C.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Class {
    Struct,
    Enum,
    Typedef,
}

#[derive(Clone, Copy)]
struct Type<'a> {
    kind: u8,
    vlen: usize,
    /// Member offsets hold a bit-field size in their upper byte.
    kind_flag: bool,
    /// Size in bytes, or the id of the type referred to.
    size_or_id: u32,
    /// What follows the common part.
    tail: &'a [u8],
}

impl<'a> Btf<'a> {
    /// Reads the whole of `/sys/kernel/btf/vmlinux`.
    pub fn parse(bytes: &'a [u8]) -> Result<Self, BtfError> {
        let mut btf = Self {
            blobs: Vec::new(),
            types: vec![(0, 0)],
            names: HashMap::new(),
        };
        btf.add(bytes)?;
        Ok(btf)
    }

    /// Adds the types of one module for as long as `look` takes: those of the next are numbered from the same start.
    pub fn with_module<T>(
        &mut self,
        bytes: &'a [u8],
        look: impl FnOnce(&Self) -> T,
    ) -> Result<T, BtfError> {
        let (blobs, types) = (self.blobs.len(), self.types.len());
        let added = self.add(bytes);
        let seen = added.map(|()| look(self));
        self.blobs.truncate(blobs);
        self.types.truncate(types);
        self.names.retain(|_, id| (*id as usize) < types);
        seen
    }

    fn add(&mut self, bytes: &'a [u8]) -> Result<(), BtfError> {
        let blob = self.blob(bytes).ok_or(BtfError::Header)?;
        let index = u8::try_from(self.blobs.len()).map_err(|_| BtfError::Header)?;
        let first = self.types.len();
        let mut at = 0;
        while at < blob.types.len() {
            let end = type_len(blob.types, at)
                .and_then(|len| at.checked_add(len))
                .filter(|end| *end <= blob.types.len())
                .ok_or(BtfError::Truncated)?;
            self.types.push((index, at as u32));
            at = end;
        }
        self.blobs.push(blob);
        for id in first as u32..self.types.len() as u32 {
            if let Some(name) = self.class_and_name(id) {
                self.names.entry(name).or_insert(id);
            }
        }
        Ok(())
    }

    fn blob(&self, bytes: &'a [u8]) -> Option<Blob<'a>> {
        let magic = bytes.get(..2)?.try_into().ok()?;
        if u16::from_ne_bytes(magic) != MAGIC {
            return None;
        }
        let header_len = word(bytes, 4)? as usize;
        let section = |offset: usize| {
            let start = header_len.checked_add(word(bytes, offset)? as usize)?;
            let end = start.checked_add(word(bytes, offset + 4)? as usize)?;
            bytes.get(start..end)
        };
        let strings_from = match self.blobs.last() {
            Some(last) => last
                .strings_from
                .checked_add(u32::try_from(last.strings.len()).ok()?)?,
            None => 0,
        };
        Some(Blob {
            types: section(8)?,
            strings: section(16)?,
            strings_from,
        })
    }

    /// Byte offset of `struct.member.member`; passes through anonymous members and embedded structs, not pointers.
    pub fn offset(&self, path: &str) -> Option<u32> {
        let mut parts = path.split('.');
        let mut id = self.find(Class::Struct, parts.next()?)?;
        let mut offset = 0u32;
        for part in parts {
            let (at, member) = self.member(id, part.as_bytes(), 0)?;
            offset = offset.checked_add(at)?;
            id = member;
        }
        Some(offset)
    }

    /// Size of a struct in bytes.
    pub fn size(&self, name: &str) -> Option<u32> {
        self.find(Class::Struct, name)
            .and_then(|id| self.get(id))
            .map(|ty| ty.size_or_id)
    }

    /// Values and names of an enum.
    pub fn enum_values(&self, name: &str) -> Vec<(u32, &'a str)> {
        let Some(ty) = self.find(Class::Enum, name).and_then(|id| self.get(id)) else {
            return Vec::new();
        };
        let step = if ty.kind == KIND_ENUM64 { 12 } else { 8 };
        (0..ty.vlen)
            .filter_map(|i| {
                let name = self.string(word(ty.tail, i * step)?)?;
                Some((
                    word(ty.tail, i * step + 4)?,
                    std::str::from_utf8(name).ok()?,
                ))
            })
            .collect()
    }

    /// Type id of a function of the kernel.
    pub fn function(&self, name: &str) -> Option<u32> {
        (1..self.types.len() as u32).find(|id| {
            self.kind_and_name(*id)
                .is_some_and(|(kind, found)| kind == KIND_FUNC && found == name.as_bytes())
        })
    }

    /// How many arguments a tracepoint has; `None` where the kernel has no such tracepoint.
    pub fn tracepoint_args(&self, name: &str) -> Option<u32> {
        let typedef = self.get(self.find(Class::Typedef, &format!("btf_trace_{name}"))?)?;
        let pointer = self
            .get(typedef.size_or_id)
            .filter(|ty| ty.kind == KIND_PTR)?;
        let proto = self
            .get(pointer.size_or_id)
            .filter(|ty| ty.kind == KIND_FUNC_PROTO)?;
        // The first parameter is the tracepoint's private data, which programs do not get.
        (proto.vlen as u32).checked_sub(1)
    }

    /// What a type that can be looked up is called.
    fn class_and_name(&self, id: u32) -> Option<(Class, &'a [u8])> {
        let (kind, name) = self.kind_and_name(id)?;
        let class = match kind {
            KIND_STRUCT | KIND_UNION => Class::Struct,
            KIND_ENUM | KIND_ENUM64 => Class::Enum,
            KIND_TYPEDEF => Class::Typedef,
            _ => return None,
        };
        (!name.is_empty()).then_some((class, name))
    }

    fn kind_and_name(&self, id: u32) -> Option<(u8, &'a [u8])> {
        let (blob, at) = *self.types.get(id as usize)?;
        let types = self.blobs.get(blob as usize)?.types;
        let name = self.string(word(types, at as usize)?)?;
        Some((kind(word(types, at as usize + 4)?), name))
    }

    fn find(&self, class: Class, name: &str) -> Option<u32> {
        self.names.get(&(class, name.as_bytes())).copied()
    }

    fn get(&self, id: u32) -> Option<Type<'a>> {
        if id == 0 {
            return None;
        }
        let (blob, at) = *self.types.get(id as usize)?;
        let types = self.blobs.get(blob as usize)?.types;
        let at = at as usize;
        let info = word(types, at + 4)?;
        Some(Type {
            kind: kind(info),
            vlen: (info & 0xffff) as usize,
            kind_flag: info >> 31 != 0,
            size_or_id: word(types, at + 8)?,
            tail: types.get(at + TYPE_LEN..)?,
        })
    }

    /// Strips typedefs and qualifiers.
    fn resolve(&self, mut id: u32) -> Option<Type<'a>> {
        for _ in 0..MAX_DEPTH {
            let ty = self.get(id)?;
            match ty.kind {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    id = ty.size_or_id;
                }
                _ => return Some(ty),
            }
        }
        None
    }

    /// Offset and type of a member, looked for in anonymous members too.
    fn member(&self, id: u32, wanted: &[u8], depth: usize) -> Option<(u32, u32)> {
        if depth > MAX_DEPTH {
            return None;
        }
        let ty = self
            .resolve(id)
            .filter(|ty| matches!(ty.kind, KIND_STRUCT | KIND_UNION))?;
        let mut anonymous = Vec::new();
        for i in 0..ty.vlen {
            let name = self.string(word(ty.tail, i * 12)?)?;
            let member = word(ty.tail, i * 12 + 4)?;
            let bits = word(ty.tail, i * 12 + 8)?;
            let bytes = if ty.kind_flag {
                bits & 0x00ff_ffff
            } else {
                bits
            } / 8;
            if name == wanted {
                return Some((bytes, member));
            }
            if name.is_empty() {
                anonymous.push((bytes, member));
            }
        }
        anonymous.into_iter().find_map(|(outer, member)| {
            let (inner, ty) = self.member(member, wanted, depth + 1)?;
            Some((outer.checked_add(inner)?, ty))
        })
    }

    fn string(&self, offset: u32) -> Option<&'a [u8]> {
        let blob = self
            .blobs
            .iter()
            .rev()
            .find(|blob| offset >= blob.strings_from)?;
        string_in(blob.strings, offset - blob.strings_from)
    }
}

fn string_in(strings: &[u8], offset: u32) -> Option<&[u8]> {
    let rest = strings.get(offset as usize..)?;
    rest.get(..rest.iter().position(|byte| *byte == 0)?)
}

/// Length of the type at `at`, tail included.
fn type_len(types: &[u8], at: usize) -> Option<usize> {
    let info = word(types, at.checked_add(4)?)?;
    let vlen = (info & 0xffff) as usize;
    let tail = match kind(info) {
        KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
        KIND_ARRAY => 12,
        KIND_STRUCT | KIND_UNION | KIND_DATASEC | KIND_ENUM64 => 12 * vlen,
        KIND_ENUM | KIND_FUNC_PROTO => 8 * vlen,
        _ => 0,
    };
    Some(TYPE_LEN + tail)
}

const fn kind(info: u32) -> u8 {
    (info >> 24) as u8 & 0x1f
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().ok()?))
}

#[cfg(test)]
#[path = "btf_tests.rs"]
mod tests;
