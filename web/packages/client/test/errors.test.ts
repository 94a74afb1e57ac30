import { describe, expect, it } from "vitest";
import { errorFromAnswer, FarframeError, isResult, RESULTS, toFarframeError } from "../src/index.ts";

describe("errorFromAnswer", () => {
  it("takes a server's result, message and next step as they are", () => {
    const body = JSON.stringify({ error: { code: "OtherSessionConnected", message: "Taken. Close the other one." } });
    const error = errorFromAnswer("The handshake", 409, body);
    expect(error).toMatchObject({ result: "OtherSessionConnected", status: 409, nextStep: "", retryable: true });
    expect(String(error)).toBe("Taken. Close the other one.");
  });

  it("keeps the code of the REST contract", () => {
    const body = JSON.stringify({ error: { code: "BadRequest", message: "The lease is too long." } });
    expect(errorFromAnswer("It", 400, body)).toMatchObject({
      result: "InvalidParam",
      code: "BadRequest",
      message: "The lease is too long.",
    });
  });

  it.each([
    ["", 401, "AuthenticationFailed"],
    ["<html>gateway</html>", 502, "SessionNotReady"],
    ['"text"', 413, "ExceedsMemoryLimit"],
    ["{}", 500, "Fail"],
    ['{"error":null}', 404, "InvalidId"],
  ])("makes a sentence of body %j with status %d", (body, status, result) => {
    const error = errorFromAnswer("The upload", status, body);
    expect(error.result).toBe(result);
    expect(error.message).toBe(`The upload failed with HTTP status ${status}.`);
  });

  it("lets a caller name what a status means", () => {
    expect(errorFromAnswer("It", 409, "", { 409: "OtherSessionConnected" }).result).toBe("OtherSessionConnected");
  });
});

describe("FarframeError", () => {
  it("reads as message and next step", () => {
    expect(String(new FarframeError("Fail", "It broke.", { nextStep: "Mend it." }))).toBe("It broke. Mend it.");
  });

  it("comes from anything that was thrown", () => {
    const typed = new FarframeError("InvalidUri", "No.");
    expect(toFarframeError(typed)).toBe(typed);
    expect(toFarframeError(new DOMException("x", "AbortError")).result).toBe("Cancelled");
    expect(toFarframeError(new Error("odd"), "Loading")).toMatchObject({
      result: "Fail",
      message: "Loading failed: odd",
    });
    expect(toFarframeError("text").message).toContain("text");
  });

  it("knows its names", () => {
    expect(RESULTS.every(isResult)).toBe(true);
    expect(isResult("Nonsense")).toBe(false);
    expect(isResult(7)).toBe(false);
  });
});
