//! Reads a file: every path in it, what its imports make of them, and what its tokens say.

use std::{collections::HashMap, mem};

use proc_macro2::{Delimiter, TokenStream, TokenTree};
use syn::{
    Attribute, ExprPath, Item, ItemExternCrate, ItemMod, ItemType, ItemUse, Macro, Meta, Path,
    Type, UseTree,
    spanned::Spanned,
    visit::{self, Visit},
};

/// A file, read.
pub(crate) struct File {
    pub(crate) mentions: Vec<Mention>,
    pub(crate) remarks: Vec<Remark>,
    /// How many lines belong to tests.
    pub(crate) test_lines: usize,
    scopes: Vec<Scope>,
}

/// A path somewhere in the code.
pub(crate) struct Mention {
    pub(crate) path: Segments,
    pub(crate) line: usize,
    /// It stands in code that only tests build.
    pub(crate) in_test: bool,
    /// It is imported, not used on the spot.
    pub(crate) import: bool,
    pub(crate) glob: bool,
    scope: usize,
}

/// Something that the tokens say, wherever they stand.
pub(crate) struct Remark {
    pub(crate) what: What,
    pub(crate) line: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Unsafe,
    Unfinished,
    Ignored,
    IgnoredExample,
    AllowedWithoutReason,
    Elsewhere,
    Elapsed,
}

/// A path's names. One that begins with `crate` is whole; an empty first name stands for `::`.
pub(crate) type Segments = Vec<String>;

/// A module, and what its imports are called in it.
struct Scope {
    module: Segments,
    names: HashMap<String, Vec<Segments>>,
    globs: Vec<Segments>,
}

/// Imports of imports are followed this far.
const DEPTH: u8 = 6;

impl File {
    pub(crate) fn read(path: &str, source: &str) -> syn::Result<Self> {
        let parsed = syn::parse_file(source)?;
        let in_test = path.ends_with("/tests.rs")
            || path.contains("/tests/")
            || parsed.attrs.iter().any(is_test_only);
        let mut reader = Reader {
            file: Self {
                mentions: Vec::new(),
                remarks: Vec::new(),
                test_lines: if in_test { source.lines().count() } else { 0 },
                scopes: vec![Scope::new(module_of(path))],
            },
            scope: 0,
            in_test,
        };
        reader.visit_file(&parsed);
        let mut file = reader.file;
        let tokens: TokenStream = source.parse().map_err(syn::Error::from)?;
        file.remark(&tokens);
        // What a file calls by a name that it defines is taken to be its own.
        if defines(&tokens, "elapsed") {
            file.remarks.retain(|remark| remark.what != What::Elapsed);
        }
        Ok(file)
    }

    /// Everything that a mention may mean. A name that several imports could have brought is
    /// taken for each of them: the checker would rather be wrong than be fooled.
    pub(crate) fn meanings(&self, mention: &Mention) -> Vec<Segments> {
        let mut meanings = Vec::new();
        self.resolve(&mention.path, mention.scope, DEPTH, &mut meanings);
        meanings.sort();
        meanings.dedup();
        meanings
    }

    fn resolve(&self, path: &[String], scope: usize, depth: u8, out: &mut Vec<Segments>) {
        let Some(depth) = depth.checked_sub(1) else { return };
        let module = &self.scopes[scope].module;
        let (first, rest) = path.split_first().expect("a path has a name");
        match first.as_str() {
            "" => out.push(rest.to_vec()),
            "crate" => self.follow(path.to_vec(), depth, out),
            "self" | "super" => {
                let relative = |name: &&String| matches!(name.as_str(), "self" | "super");
                let steps: Vec<_> = path.iter().take_while(relative).collect();
                let ups = steps.iter().filter(|name| **name == "super").count();
                let above = &module[..module.len().saturating_sub(ups)];
                self.follow(within(above, &path[steps.len()..]), depth, out);
            }
            _ => self.look_up(path, scope, depth, out),
        }
    }

    /// A name of `scope`: imported, or brought by a glob, or what it says.
    fn look_up(&self, path: &[String], scope: usize, depth: u8, out: &mut Vec<Segments>) {
        let Scope { module, names, globs } = &self.scopes[scope];
        let (first, rest) = path.split_first().expect("a path has a name");
        if let Some(targets) = names.get(first) {
            for target in targets {
                // `use time;` beside a module `time` names itself.
                if target.first() == Some(first) {
                    out.push([target, rest].concat());
                } else {
                    self.resolve(&[target, rest].concat(), scope, depth, out);
                }
            }
            return;
        }
        out.push(path.to_vec());
        for glob in globs {
            self.resolve(&[glob, path].concat(), scope, depth, out);
        }
        let child = within(module, path);
        if self.scopes.iter().any(|scope| child[1..].starts_with(&scope.module)) {
            self.follow(child, depth, out);
        }
    }

    /// A whole path within the crate: where it leads through a module of this file, on through
    /// what that module imports.
    fn follow(&self, path: Segments, depth: u8, out: &mut Vec<Segments>) {
        let inside = &path[1..];
        let innermost = (0..self.scopes.len())
            .filter(|&scope| inside.starts_with(&self.scopes[scope].module))
            .max_by_key(|&scope| self.scopes[scope].module.len());
        if let Some(scope) = innermost {
            let rest = &inside[self.scopes[scope].module.len()..];
            let Scope { names, globs, .. } = &self.scopes[scope];
            if let Some((first, more)) = rest.split_first() {
                for target in names.get(first).into_iter().flatten() {
                    self.resolve(&[target, more].concat(), scope, depth, out);
                }
                for glob in globs {
                    self.resolve(&[glob, rest].concat(), scope, depth, out);
                }
            }
        }
        out.push(path);
    }

    fn remark(&mut self, tokens: &TokenStream) {
        let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
        for (index, token) in tokens.iter().enumerate() {
            let line = token.span().start().line;
            let mut say = |what| self.remarks.push(Remark { what, line });
            let next = tokens.get(index + 1);
            match token {
                TokenTree::Ident(ident) if ident == "unsafe" => say(What::Unsafe),
                TokenTree::Ident(ident)
                    if (ident == "todo" || ident == "unimplemented") && is(next, '!') =>
                {
                    say(What::Unfinished);
                }
                TokenTree::Ident(ident)
                    if ident == "elapsed"
                        && index.checked_sub(1).is_some_and(|last| is(tokens.get(last), '.'))
                        && group(next, Delimiter::Parenthesis)
                            .is_some_and(|arguments| arguments.is_empty()) =>
                {
                    say(What::Elapsed);
                }
                TokenTree::Punct(punct) if punct.as_char() == '#' => {
                    let inner = usize::from(is(next, '!'));
                    let body = tokens.get(index + 1 + inner);
                    if let Some(body) = group(body, Delimiter::Bracket) {
                        judge_attribute(&body, &mut say);
                    }
                }
                TokenTree::Group(group) => self.remark(&group.stream()),
                _ => {}
            }
        }
    }
}

/// What is wrong with an attribute, in code or in a macro's body, with or without `cfg_attr`.
fn judge_attribute(body: &TokenStream, say: &mut impl FnMut(What)) {
    let tokens: Vec<TokenTree> = body.clone().into_iter().collect();
    for (index, token) in tokens.iter().enumerate() {
        let next = tokens.get(index + 1);
        match token {
            TokenTree::Ident(ident) if ident == "cfg_attr" => {
                if let Some(inner) = group(next, Delimiter::Parenthesis) {
                    judge_attribute(&inner, say);
                }
            }
            TokenTree::Ident(ident) if ident == "ignore" => say(What::Ignored),
            TokenTree::Ident(ident) if ident == "path" && is(next, '=') => say(What::Elsewhere),
            TokenTree::Ident(ident) if ident == "allow" || ident == "expect" => {
                let lints = group(next, Delimiter::Parenthesis);
                let reasoned =
                    |lints: TokenStream| lints.into_iter().any(|token| names(&token, "reason"));
                if lints.is_some_and(|lints| !reasoned(lints)) {
                    say(What::AllowedWithoutReason);
                }
            }
            TokenTree::Literal(text) if index == 2 && names(&tokens[0], "doc") => {
                let text = text.to_string();
                let fence = text.trim_start_matches(['r', '#', '"', ' ']);
                if fence.starts_with("```") && fence.contains("ignore") {
                    say(What::IgnoredExample);
                }
            }
            _ => {}
        }
    }
}

impl Scope {
    fn new(module: Segments) -> Self {
        Self { module, names: HashMap::new(), globs: Vec::new() }
    }
}

struct Reader {
    file: File,
    scope: usize,
    in_test: bool,
}

impl Reader {
    fn mention(&mut self, path: Segments, line: usize, import: bool, glob: bool) {
        let (scope, in_test) = (self.scope, self.in_test);
        self.file.mentions.push(Mention { path, line, in_test, import, glob, scope });
    }

    fn import(&mut self, tree: &UseTree, mut path: Segments) {
        let line = tree.span().start().line;
        match tree {
            UseTree::Path(tree) => {
                path.push(tree.ident.to_string());
                self.import(&tree.tree, path);
            }
            UseTree::Group(tree) => {
                for tree in &tree.items {
                    self.import(tree, path.clone());
                }
            }
            UseTree::Glob(_) => {
                self.file.scopes[self.scope].globs.push(path.clone());
                self.mention(path, line, true, true);
            }
            UseTree::Name(tree) => {
                if tree.ident != "self" || path.is_empty() {
                    path.push(tree.ident.to_string());
                }
                let name = path.last().cloned().expect("it was just given a name");
                self.name(name, path, line);
            }
            UseTree::Rename(tree) => {
                if tree.ident != "self" || path.is_empty() {
                    path.push(tree.ident.to_string());
                }
                self.name(tree.rename.to_string(), path, line);
            }
        }
    }

    fn name(&mut self, name: String, path: Segments, line: usize) {
        self.mention(path.clone(), line, true, false);
        self.file.scopes[self.scope].names.entry(name).or_default().push(path);
    }

    /// Paths in tokens that are not parsed: the bodies of macros, the arguments of attributes.
    fn scan(&mut self, tokens: TokenStream, prefix: &[String]) {
        let mut path: Segments = Vec::new();
        let mut line = 0;
        let mut colons = 0;
        for token in tokens {
            match token {
                TokenTree::Punct(punct) if punct.as_char() == ':' => {
                    colons += 1;
                    continue;
                }
                TokenTree::Ident(ident) => {
                    if colons != 2 {
                        self.scanned(mem::take(&mut path), prefix, line);
                    }
                    if path.is_empty() {
                        line = ident.span().start().line;
                    }
                    path.push(ident.to_string());
                }
                TokenTree::Group(group) => {
                    let braced = group.delimiter() == Delimiter::Brace;
                    if colons == 2 && braced && !path.is_empty() {
                        let prefix = [prefix, &path].concat();
                        path.clear();
                        self.scan(group.stream(), &prefix);
                    } else {
                        self.scanned(mem::take(&mut path), prefix, line);
                        self.scan(group.stream(), &[]);
                    }
                }
                _ => self.scanned(mem::take(&mut path), prefix, line),
            }
            colons = 0;
        }
        self.scanned(path, prefix, line);
    }

    fn scanned(&mut self, path: Segments, prefix: &[String], line: usize) {
        if !path.is_empty() {
            let import = !prefix.is_empty();
            self.mention([prefix, &path].concat(), line, import, false);
        }
    }

    fn test_only(
        &mut self,
        attrs: &[Attribute],
        node: &impl Spanned,
        visit: impl FnOnce(&mut Self),
    ) {
        let outer = self.in_test;
        if !outer && attrs.iter().any(is_test_only) {
            self.in_test = true;
            let span = node.span();
            self.file.test_lines += span.end().line + 1 - span.start().line;
        }
        visit(self);
        self.in_test = outer;
    }
}

impl<'ast> Visit<'ast> for Reader {
    fn visit_item(&mut self, item: &'ast Item) {
        self.test_only(attributes(item), item, |reader| visit::visit_item(reader, item));
    }

    fn visit_impl_item_fn(&mut self, item: &'ast syn::ImplItemFn) {
        self.test_only(&item.attrs, item, |reader| visit::visit_impl_item_fn(reader, item));
    }

    fn visit_item_mod(&mut self, item: &'ast ItemMod) {
        if item.content.is_none() {
            return visit::visit_item_mod(self, item);
        }
        let outer = self.scope;
        let mut module = self.file.scopes[outer].module.clone();
        module.push(item.ident.to_string());
        self.scope = self.file.scopes.len();
        self.file.scopes.push(Scope::new(module));
        visit::visit_item_mod(self, item);
        self.scope = outer;
    }

    fn visit_item_use(&mut self, item: &'ast ItemUse) {
        let root = item.leading_colon.as_ref().map(|_| String::new());
        self.import(&item.tree, root.into_iter().collect());
    }

    fn visit_item_extern_crate(&mut self, item: &'ast ItemExternCrate) {
        let name = item.rename.as_ref().map_or(&item.ident, |(_, name)| name).to_string();
        let line = item.ident.span().start().line;
        self.name(name, vec![item.ident.to_string()], line);
    }

    /// `type Clock = Instant;` is an import by another name.
    fn visit_item_type(&mut self, item: &'ast ItemType) {
        if let Type::Path(target) = &*item.ty {
            let names = &mut self.file.scopes[self.scope].names;
            names.entry(item.ident.to_string()).or_default().push(segments(&target.path));
        }
        visit::visit_item_type(self, item);
    }

    fn visit_path(&mut self, path: &'ast Path) {
        self.mention(segments(path), path.span().start().line, false, false);
        visit::visit_path(self, path);
    }

    /// `<Instant>::now` is `Instant::now`.
    fn visit_expr_path(&mut self, expr: &'ast ExprPath) {
        let qself = expr.qself.as_ref().filter(|qself| qself.position == 0);
        if let Some(Type::Path(ty)) = qself.map(|qself| &*qself.ty) {
            let tail = segments(&expr.path).into_iter().filter(|name| !name.is_empty());
            let path = segments(&ty.path).into_iter().chain(tail).collect();
            self.mention(path, expr.span().start().line, false, false);
            self.visit_path(&ty.path);
        } else {
            visit::visit_expr_path(self, expr);
        }
    }

    fn visit_macro(&mut self, item: &'ast Macro) {
        self.scan(item.tokens.clone(), &[]);
        visit::visit_macro(self, item);
        if item.path.is_ident("include") {
            let line = item.path.span().start().line;
            self.file.remarks.push(Remark { what: What::Elsewhere, line });
        }
    }

    fn visit_attribute(&mut self, attribute: &'ast Attribute) {
        match &attribute.meta {
            Meta::List(list) => self.scan(list.tokens.clone(), &[]),
            // An attribute with a value, `#[doc = include_str!(…)]` say, holds an expression.
            Meta::NameValue(value) => self.visit_expr(&value.value),
            Meta::Path(_) => {}
        }
    }
}

/// `src/retry/state.rs` is `retry::state`, `src/retry/mod.rs` is `retry`.
pub(crate) fn module_of(path: &str) -> Segments {
    let path = path.strip_prefix("src/").unwrap_or(path);
    let path = path.strip_suffix(".rs").unwrap_or(path);
    let path = path.strip_suffix("/mod").unwrap_or(path);
    match path {
        "lib" | "main" => Vec::new(),
        path => path.split('/').map(str::to_owned).collect(),
    }
}

fn within(module: &[String], rest: &[String]) -> Segments {
    [&[String::from("crate")], module, rest].concat()
}

fn segments(path: &Path) -> Segments {
    let root = path.leading_colon.as_ref().map(|_| String::new());
    root.into_iter().chain(path.segments.iter().map(|part| part.ident.to_string())).collect()
}

/// `#[cfg(test)]`, `#[cfg(all(test, …))]`; neither `not(test)` nor `any(test, …)`.
fn is_test_only(attribute: &Attribute) -> bool {
    fn asks(tokens: TokenStream) -> bool {
        let tokens: Vec<TokenTree> = tokens.into_iter().collect();
        tokens.iter().enumerate().any(|(index, token)| {
            let inner = group(tokens.get(index + 1), Delimiter::Parenthesis);
            names(token, "test") || names(token, "all") && inner.is_some_and(asks)
        })
    }
    match &attribute.meta {
        Meta::List(list) => list.path.is_ident("cfg") && asks(list.tokens.clone()),
        _ => false,
    }
}

fn attributes(item: &Item) -> &[Attribute] {
    match item {
        Item::Const(item) => &item.attrs,
        Item::Enum(item) => &item.attrs,
        Item::ExternCrate(item) => &item.attrs,
        Item::Fn(item) => &item.attrs,
        Item::Impl(item) => &item.attrs,
        Item::Macro(item) => &item.attrs,
        Item::Mod(item) => &item.attrs,
        Item::Static(item) => &item.attrs,
        Item::Struct(item) => &item.attrs,
        Item::Trait(item) => &item.attrs,
        Item::Type(item) => &item.attrs,
        Item::Use(item) => &item.attrs,
        _ => &[],
    }
}

fn defines(tokens: &TokenStream, function: &str) -> bool {
    let tokens: Vec<TokenTree> = tokens.clone().into_iter().collect();
    tokens.windows(2).any(|pair| names(&pair[0], "fn") && names(&pair[1], function))
        || tokens.iter().any(|token| match token {
            TokenTree::Group(group) => defines(&group.stream(), function),
            _ => false,
        })
}

fn names(token: &TokenTree, name: &str) -> bool {
    matches!(token, TokenTree::Ident(ident) if ident == name)
}

fn is(token: Option<&TokenTree>, char: char) -> bool {
    matches!(token, Some(TokenTree::Punct(punct)) if punct.as_char() == char)
}

fn group(token: Option<&TokenTree>, delimiter: Delimiter) -> Option<TokenStream> {
    match token {
        Some(TokenTree::Group(group)) if group.delimiter() == delimiter => Some(group.stream()),
        _ => None,
    }
}
