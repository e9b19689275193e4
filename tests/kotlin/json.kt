// What the generated code uses of org.json as Android has it: reading, writing, and nothing kept but JSON's own values.
package org.json

class JSONException(message: String) : RuntimeException(message)

class JSONObject private constructor(private val values: LinkedHashMap<String, Any>) {
    constructor() : this(LinkedHashMap())
    constructor(map: Map<*, *>) : this(LinkedHashMap()) { map.forEach { (k, v) -> put(k.toString(), wrap(v)) } }
    constructor(text: String) : this((Reader(text).document() as? JSONObject ?: throw JSONException("no object")).values)

    fun put(name: String, value: Any?): JSONObject = apply { if (value == null) values.remove(name) else values[name] = value }
    fun get(name: String): Any = values[name] ?: throw JSONException("no value for $name")
    fun getString(name: String): String = get(name).toString()
    fun getJSONArray(name: String): JSONArray = get(name) as? JSONArray ?: throw JSONException("$name is no array")
    fun optJSONArray(name: String): JSONArray? = values[name] as? JSONArray
    fun keys(): Iterator<String> = values.keys.iterator()
    fun toString(indent: Int): String = toString()
    override fun toString() = values.entries.joinToString(",", "{", "}") { "${text(it.key)}:${text(it.value)}" }

    companion object {
        @JvmField val NULL: Any = object { override fun toString() = "null" }

        /** As Android's: a number that isn't one of Java's own is lost. */
        fun wrap(value: Any?): Any? = when (value) {
            null -> NULL
            is JSONObject, is JSONArray, is String, is Boolean, is Int, is Long, is Double, NULL -> value
            is Map<*, *> -> JSONObject(value)
            is Collection<*> -> JSONArray(value)
            else -> null
        }

        internal fun text(value: Any?): String = when (value) {
            is String -> quoted(value)
            else -> value.toString()
        }

        private fun quoted(value: String) = value.map {
            when {
                it == '"' || it == '\\' -> "\\$it"
                it < ' ' || it.isSurrogate() -> "\\u%04x".format(it.code)
                else -> it.toString()
            }
        }.joinToString("", "\"", "\"")
    }
}

class JSONArray(items: Collection<*> = listOf<Any>()) {
    private val items: MutableList<Any?> = items.map { JSONObject.wrap(it) }.toMutableList()
    fun length() = items.size
    fun get(index: Int): Any = items[index]!!
    fun put(value: Any?): JSONArray = apply { items += value }
    override fun toString() = items.joinToString(",", "[", "]") { JSONObject.text(it) }
}

private class Reader(private val text: String) {
    private var at = 0

    fun document(): Any = value().also { space(); if (at < text.length) throw JSONException("after the end: $at") }

    private fun value(): Any {
        space()
        return when (text[at]) {
            '{' -> JSONObject().also { made -> list('}') { made.put(string(), value().also { }) } }
            '[' -> JSONArray().also { made -> list(']') { made.put(value()) } }
            '"' -> string()
            else -> word()
        }
    }

    private fun list(end: Char, item: () -> Unit) {
        at++
        space()
        while (text[at] != end) {
            item()
            space()
            if (text[at] == ',') at++
            space()
        }
        at++
    }

    private fun string(): String {
        space()
        val found = StringBuilder()
        at++
        while (text[at] != '"') {
            if (text[at] != '\\') found.append(text[at++]) else {
                val c = text[at + 1]
                at += 2
                found.append(when (c) { 'n' -> '\n'; 't' -> '\t'; 'r' -> '\r'; 'b' -> '\b'; 'f' -> '\u000c'
                    'u' -> text.substring(at, at + 4).toInt(16).toChar().also { at += 4 }
                    else -> c })
            }
        }
        at++
        space()
        if (at < text.length && text[at] == ':') at++
        return found.toString()
    }

    private fun word(): Any {
        val start = at
        while (at < text.length && text[at] !in ",]} \n\t\r") at++
        return when (val word = text.substring(start, at)) {
            "true" -> true
            "false" -> false
            "null" -> JSONObject.NULL
            else -> word.toIntOrNull() ?: word.toLongOrNull() ?: word.toDouble()
        }
    }

    private fun space() { while (at < text.length && text[at] in " \n\t\r") at++ }
}
